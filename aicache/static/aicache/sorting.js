// Tables are sorted by the head that is pressed, and stay so when the page brings itself up to date.
"use strict";

(() => {
    const chosen = {};
    const language = document.documentElement.lang || undefined;

    function value(row, at) {
        const cell = row.cells[at];
        const given = cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
        const number = Number(given);
        return given === "" || Number.isNaN(number) ? given : number;
    }

    function sort(table) {
        const {at, descending} = chosen[table.id] || {};
        const heads = table.tHead.rows[0].cells;
        for (const head of heads) {
            head.removeAttribute("aria-sort");
        }
        if (at === undefined) {
            return;
        }
        heads[at].setAttribute("aria-sort", descending ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((one, other) => {
            const [first, second] = [value(one, at), value(other, at)];
            const order = typeof first === "number" && typeof second === "number"
                ? first - second
                : String(first).localeCompare(String(second), language, {numeric: true});
            return descending ? -order : order;
        });
        body.append(...rows);
    }

    function prepare() {
        for (const table of document.querySelectorAll("table.aicache-sortable")) {
            [...table.tHead.rows[0].cells].forEach((head, at) => {
                if (head.querySelector("button")) {
                    return;
                }
                const button = document.createElement("button");
                button.type = "button";
                button.id = `${table.id}-sort-${at}`;
                button.append(...head.childNodes);
                button.addEventListener("click", () => {
                    const before = chosen[table.id] || {};
                    const first = head.classList.contains("number") || at === 1;
                    chosen[table.id] = {at, descending: before.at === at ? !before.descending : first};
                    sort(table);
                });
                head.append(button);
            });
            sort(table);
        }
    }

    document.addEventListener("aicache:updated", prepare);
    prepare();
})();
