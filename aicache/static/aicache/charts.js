// Draws the series that the page carries, in the admin's colours, and again when either changes.
"use strict";

(() => {
    const charts = {};
    const names = {
        calls: ["hit", "stale", "semantic", "coalesced", "miss", "other"],
        times: ["hit50", "hit95", "upstream50", "upstream95"],
        dollars: ["saved", "spent", "redundant"],
    };
    const colours = {
        hit50: "hit", hit95: "hit", upstream50: "miss", upstream95: "miss",
        saved: "hit", spent: "miss", redundant: "stale",
    };
    const language = document.documentElement.lang || "en";
    const section = document.getElementById("aicache-charts");
    const words = section ? section.dataset : {};
    const shortest = new Intl.NumberFormat(language, {notation: "compact", maximumFractionDigits: 1});
    const dollars = new Intl.NumberFormat(language, {style: "currency", currency: "USD", maximumSignificantDigits: 4});

    function series() {
        const found = document.getElementById("aicache-series");
        return found && JSON.parse(found.textContent);
    }

    function colour(name) {
        return getComputedStyle(document.body).getPropertyValue(name).trim();
    }

    // Days are counted in UTC, shorter spans are told by the reader's own clock.
    function labels(found) {
        const options = found.step >= 86400
            ? {month: "short", day: "numeric", timeZone: "UTC"}
            : found.step >= 3600 && found.at.length > 24
                ? {month: "short", day: "numeric", hour: "2-digit"}
                : {hour: "2-digit", minute: "2-digit"};
        const format = new Intl.DateTimeFormat(language, options);
        return found.at.map((at) => format.format(new Date(at * 1000)));
    }

    function filled(pattern, parts) {
        return pattern.replace(/\{(\w+)\}/g, (_, name) => parts[name]);
    }

    function seconds(value) {
        return value < 1
            ? filled(words.milliseconds, {number: shortest.format(value * 1000)})
            : filled(words.seconds, {number: shortest.format(value)});
    }

    // What has been going on for some minutes only would be no line.
    function radius(values) {
        const few = values.filter((value) => value).length < 12;
        return values.map((value) => few && value ? 2 : 0);
    }

    // The powers of ten around all that is shown, and 2 and 5 between them where those are few.
    function scale(found) {
        const all = names.times.flatMap((name) => found.times[name]).filter((value) => value > 0);
        const [least, most] = all.length ? [Math.min(...all), Math.max(...all)] : [0.001, 10];
        const low = Math.floor(Math.log10(least));
        const high = Math.max(Math.ceil(Math.log10(most)), low + 1);
        const between = high - low < 3 ? [1, 2, 5] : [1];
        const marks = [];
        for (let power = low; power < high; power += 1) {
            marks.push(...between.map((first) => first * 10 ** power));
        }
        marks.push(10 ** high);
        return {
            type: "logarithmic",
            min: marks[0],
            max: marks[marks.length - 1],
            afterBuildTicks: (axis) => { axis.ticks = marks.map((value) => ({value})); },
        };
    }

    // A line's name stands beside a piece of it, as it is drawn.
    function pieces(chart) {
        return Chart.defaults.plugins.legend.labels.generateLabels(chart).map((one) => ({
            ...one, lineWidth: 2, lineDash: chart.data.datasets[one.datasetIndex].borderDash || [],
        }));
    }

    function datasets(kind, canvas, found) {
        return names[kind].filter((name) => kind !== "calls" || found.calls[name].some(Boolean)).map((name) => {
            const own = colour(`--aicache-${colours[name] || name}`);
            const line = {
                label: canvas.dataset[name],
                data: found[kind][name],
                borderColor: own,
                backgroundColor: own,
                borderWidth: kind === "calls" ? 0 : 2,
                pointRadius: radius(found[kind][name]),
                pointHitRadius: 8,
                tension: 0.2,
                spanGaps: true,
            };
            if (name.endsWith("95") || name === "redundant") {
                line.borderDash = [4, 3];
            }
            return line;
        });
    }

    function options(kind, found) {
        const quiet = colour("--body-quiet-color");
        const told = {calls: (value) => shortest.format(value), times: seconds, dollars: (value) => dollars.format(value)}[kind];
        const boxes = {color: quiet, boxWidth: 12, boxHeight: 12};
        const lines = {usePointStyle: true, pointStyle: "line", pointStyleWidth: 24, generateLabels: pieces};
        return {
            animation: false,
            maintainAspectRatio: false,
            interaction: {mode: "index", intersect: false},
            plugins: {
                legend: {position: "bottom", labels: kind === "calls" ? boxes : {...boxes, ...lines}},
                tooltip: {callbacks: {label: (item) => filled(words.told, {name: item.dataset.label, value: told(item.parsed.y)})}},
            },
            scales: {
                x: {
                    stacked: kind === "calls",
                    ticks: {color: quiet, maxRotation: 0, autoSkipPadding: 12},
                    grid: {display: false},
                },
                y: {
                    stacked: kind === "calls",
                    beginAtZero: kind !== "times",
                    ticks: {color: quiet, callback: told, maxTicksLimit: 8, precision: kind === "calls" ? 0 : undefined},
                    grid: {color: colour("--hairline-color")},
                    ...(kind === "times" ? scale(found) : {}),
                },
            },
        };
    }

    function draw() {
        const found = series();
        for (const kind of Object.keys(names)) {
            const canvas = document.getElementById(`aicache-${kind}`);
            if (!canvas || !found) {
                continue;
            }
            const data = {labels: labels(found), datasets: datasets(kind, canvas, found)};
            if (charts[kind]) {
                const hidden = new Set(charts[kind].data.datasets.filter((_, at) => !charts[kind].isDatasetVisible(at)).map((one) => one.label));
                charts[kind].data = data;
                charts[kind].options = options(kind, found);
                data.datasets.forEach((one) => { one.hidden = hidden.has(one.label); });
                charts[kind].update();
            } else {
                charts[kind] = new Chart(canvas, {type: kind === "calls" ? "bar" : "line", data, options: options(kind, found)});
            }
        }
    }

    document.addEventListener("aicache:updated", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new MutationObserver(draw).observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});
    draw();
})();
