// Brings the page up to date without loading it anew: asks whether anything was counted, and if so for the page's parts.
"use strict";

(() => {
    const button = document.getElementById("aicache-live");
    const inFlight = () => document.querySelector("#aicache-tile-in_flight .aicache-value");
    const PULSE = 2000;
    const LATER = 15000;  // what costs most is written down some seconds after it was counted
    const ANYWAY = 30000;  // where nobody calls, time goes by all the same, and Redis may be away or back
    let counted = null;
    let lookedAt = performance.now();
    let changedAt = lookedAt;  // something may have been just before
    let isBusy = false;

    if (!button || !inFlight()) {
        return;
    }
    const refresh = Number(button.dataset.refresh) * 1000;

    function isLive() {
        return button.getAttribute("aria-pressed") === "true" && !document.hidden;
    }

    async function ask(address) {
        const answer = await fetch(address, {credentials: "same-origin", redirect: "error"});
        if (!answer.ok) {
            throw new Error(`${answer.status}`);
        }
        return answer;
    }

    async function lookAgain() {
        const fresh = new DOMParser().parseFromString(await (await ask(location.href)).text(), "text/html");
        const focused = place(document.activeElement);
        const open = [...document.querySelectorAll("[data-live] details[open]")].map((one) => one.id);
        for (const part of document.querySelectorAll("[data-live]")) {
            const found = fresh.getElementById(part.id);
            // What its reader has marked, or is reading in, is left alone.
            if (!found || part.innerHTML === found.innerHTML || isMarked(part)) {
                continue;
            }
            const scrolled = [...part.querySelectorAll(".aicache-wide")].map((one) => [one.scrollLeft, one.scrollTop]);
            part.replaceChildren(...found.childNodes);
            [...part.querySelectorAll(".aicache-wide")].forEach((one, at) => one.scrollTo(...(scrolled[at] || [0, 0])));
        }
        for (const id of open) {
            const details = document.getElementById(id);
            if (details) {
                details.open = true;
            }
        }
        document.dispatchEvent(new CustomEvent("aicache:updated"));
        const again = focused && seek(focused);
        if (again && again !== document.activeElement) {
            again.focus({preventScroll: true});
        }
    }

    // Where the focus is, in words that hold when what is there has been replaced, and sorted anew.
    function place(one) {
        const part = one && one.closest("[data-live]");
        return part && {part: part.id, name: name(one), tag: one.tagName};
    }

    function name(one) {
        return one.id || one.getAttribute("href") || one.getAttribute("aria-labelledby") || one.getAttribute("aria-label");
    }

    function seek({part, name: wanted, tag}) {
        return [...document.getElementById(part).querySelectorAll(tag)].find((one) => name(one) === wanted);
    }

    function isMarked(part) {
        const marked = getSelection();
        return marked.rangeCount > 0 && !marked.isCollapsed && part.contains(marked.anchorNode);
    }

    function say(trouble) {
        button.classList.toggle("aicache-lost", Boolean(trouble));
        button.title = trouble;
    }

    async function beat() {
        if (!isLive() || isBusy) {
            return;
        }
        isBusy = true;
        try {
            const pulse = await (await ask(button.dataset.pulse)).json();
            const now = performance.now();
            if (inFlight()) {
                inFlight().textContent = pulse.in_flight;
            }
            if (counted !== null && pulse.counted !== counted) {
                changedAt = now;
            }
            counted = pulse.counted;
            const since = now - lookedAt;
            if ((since >= refresh && changedAt > lookedAt - LATER) || since >= ANYWAY) {
                lookedAt = now;
                await lookAgain();
            }
            say("");
        } catch {  // the site is restarted, or its reader was signed out: the next beat tells
            say(button.dataset.lost);
        } finally {
            isBusy = false;
        }
    }

    button.hidden = false;
    button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        beat();
    });
    document.addEventListener("visibilitychange", beat);
    setInterval(beat, PULSE);
    beat();
})();
