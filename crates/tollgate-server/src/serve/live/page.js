"use strict";
(() => {
  const SECONDS = 300;
  const byId = (id) => document.getElementById(id);
  let points = [];
  let isPaused = false;
  let latest = null;

  // Numbers for people: three digits say enough.
  const count = (number) => {
    for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
      if (number >= size) {
        const scaled = number / (unit === "k" ? 1e3 : size);
        return (scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)) + " " + unit;
      }
    }
    return number.toLocaleString("en");
  };
  const time = (nanos) => {
    if (nanos === undefined) return "–";
    for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
      if (nanos >= size) return (nanos / size >= 100 ? (nanos / size).toFixed(0) : (nanos / size).toFixed(1)) + " " + unit;
    }
    return nanos + " ns";
  };
  const length = (seconds) => {
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= size) return Math.floor(seconds / size) + " " + unit;
    }
    return seconds + " s";
  };
  const wait = (millis) => (millis < 1000 ? millis + " ms" : length(Math.ceil(millis / 1000)));
  const percent = (part, whole) => (whole === 0 ? "–" : (100 * part / whole).toFixed(part * 10 < whole && part > 0 ? 1 : 0) + " %");

  // Whatever a request says is only ever text here.
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const rows = (id, items, cells, empty) => {
    const body = byId(id);
    const made = items.map((item) => {
      const row = element("tr");
      row.append(...cells(item));
      return row;
    });
    if (made.length === 0) {
      const cell = element("td", "empty", empty);
      cell.colSpan = 9;
      const row = element("tr");
      row.append(cell);
      made.push(row);
    }
    body.replaceChildren(...made);
  };
  const key = (text) => {
    const cell = element("td", "key", text);
    cell.title = text;
    return cell;
  };

  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    return made;
  };
  // A round number that is not below any of these.
  const ceiling = (most) => {
    if (most <= 0) return 1;
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= most);
  };
  const x = (index, length) => (900 * (SECONDS - length + index)) / (SECONDS - 1);
  const grid = (height) => [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: 900, y1: height * part, y2: height * part }));

  const drawRates = () => {
    const height = 220;
    const top = ceiling(Math.max(...points.map((point) => point.allowed + point.denied), 0));
    const y = (value) => height - (height * value) / top;
    const area = (className, low, high) => {
      const upper = points.map((point, index) => x(index, points.length).toFixed(1) + "," + y(high(point)).toFixed(1));
      const lower = points.map((point, index) => x(index, points.length).toFixed(1) + "," + y(low(point)).toFixed(1)).reverse();
      return svg("polygon", { class: className, points: upper.concat(lower).join(" ") });
    };
    byId("rates").replaceChildren(
      ...grid(height),
      area("area-denied", () => 0, (point) => point.denied),
      area("area-allowed", (point) => point.denied, (point) => point.denied + point.allowed),
    );
    byId("rates-top").textContent = "top: " + count(top) + " a second";
  };
  const drawTimes = () => {
    const height = 90;
    const known = points.flatMap((point) => [point.p50_ns, point.p99_ns]).filter((time) => time > 0);
    if (known.length === 0) {
      byId("times").replaceChildren(...grid(height));
      byId("times-top").textContent = "nothing was decided yet";
      return;
    }
    const least = Math.log10(Math.min(...known)) - 0.1;
    const most = Math.log10(Math.max(...known)) + 0.1;
    const y = (nanos) => height - (height * (Math.log10(nanos) - least)) / (most - least);
    // A gap where nothing was decided.
    const line = (className, of) => {
      let path = "";
      let isDown = false;
      points.forEach((point, index) => {
        if (!(of(point) > 0)) { isDown = false; return; }
        path += (isDown ? "L" : "M") + x(index, points.length).toFixed(1) + " " + y(of(point)).toFixed(1);
        isDown = true;
      });
      return svg("path", { class: "line " + className, d: path || "M0 0" });
    };
    byId("times").replaceChildren(...grid(height), line("line-p99", (point) => point.p99_ns), line("line-p50", (point) => point.p50_ns));
    byId("times-top").textContent = time(Math.round(10 ** least)) + " to " + time(Math.round(10 ** most)) + ", logarithmic";
  };

  const why = (recent) => {
    if (recent.allowed) return recent.limit === undefined ? "unlimited" : count(recent.remaining) + " of " + count(recent.limit) + " left (" + recent.rule + ")";
    const when = recent.retry_after_ms === undefined ? "waiting does not help" : "passes in " + wait(recent.retry_after_ms);
    const source = { ban: "banned", fallback: "by this node alone, as the store is away", overflow: "the store is full", lease: "by what this node holds ahead" }[recent.source];
    return (recent.source === "ban" ? "banned" : "over " + recent.rule + (source ? ", " + source : "")) + "; " + when;
  };

  const show = () => {
    const now = latest;
    if (!now) return;
    byId("allowed").textContent = count(now.allowed);
    byId("denied").textContent = count(now.denied);
    byId("share").textContent = percent(now.denied, now.allowed + now.denied);
    byId("p50").textContent = time(now.p50_ns);
    byId("p99").textContent = time(now.p99_ns);
    byId("errors").textContent = count(now.errors);
    byId("errors-tile").classList.toggle("alarm", now.errors > 0);
    drawRates();
    drawTimes();
    const keyCells = (item) => [key(item.key), element("td", "", item.policy), element("td", "n", count(item.count))];
    rows("denied-keys", now.denied_keys, keyCells, "Nobody is denied.");
    rows("busy-keys", now.busy_keys, keyCells, "Nobody has asked yet.");
    rows("policies", now.policies, (policy) => {
      const name = element("td", "", policy.name + " ");
      if (policy.shadow) name.append(element("span", "tag shadow", "shadow"));
      const bar = element("span", "bar");
      const part = element("i");
      part.style.width = (policy.all_matched ? (100 * policy.all_denied) / policy.all_matched : 0) + "%";
      bar.append(part);
      const share = element("td");
      share.title = percent(policy.all_denied, policy.all_matched);
      share.append(bar);
      return [name, element("td", "n", count(policy.matched)), element("td", "n", count(policy.denied)),
        element("td", "n", count(policy.all_matched)), element("td", "n", count(policy.all_denied)), share];
    }, "No policy is switched on.");
    const more = byId("more-policies");
    more.hidden = now.more_policies === 0;
    more.textContent = "and " + count(now.more_policies) + " more policies, which deny less";
    rows("recent", now.recent, (recent) => [
      element("td", "", new Date(recent.unix_ms).toLocaleTimeString([], { hour12: false })),
      tagged(recent.allowed),
      key(recent.key),
      element("td", "", recent.policy),
      element("td", "why", why(recent)),
    ], "Nothing was decided yet.");
    const store = now.store;
    byId("about").textContent = "tollgate " + now.version + " · up " + length(now.uptime_s) + " · " + count(now.totals.allowed) + " allowed, "
      + count(now.totals.denied) + " denied, " + count(now.totals.errors) + " not decided · store: " + store.backend + ", "
      + count(store.keys) + " of " + count(store.capacity) + " keys in memory" + (store.overflowed ? ", " + count(store.overflowed) + " without room" : "")
      + (now.bans ? " · " + count(now.bans) + " banned" : "");
    state();
  };
  const tagged = (isAllowed) => {
    const cell = element("td");
    cell.append(element("span", "tag " + (isAllowed ? "allowed" : "denied"), isAllowed ? "allowed" : "denied"));
    return cell;
  };

  let isConnected = false;
  const state = () => {
    const shown = byId("state");
    const store = latest && latest.store;
    const failure = latest && latest.reload_failure;
    const isTrouble = !isConnected || (store && !store.available) || failure;
    shown.className = "state " + (isTrouble ? "trouble" : "live");
    let text = isPaused ? "paused" : "live";
    if (!isConnected) text = "no connection to the server, trying again …";
    else if (store && !store.available) text = "the store is away" + (store.trouble ? ": " + store.trouble : "");
    else if (failure) text = "the policy files are wrong, those before stay in force: " + failure.split("\n")[0];
    // Told to screen readers only when it changes.
    if (shown.textContent !== text) shown.textContent = text;
  };

  byId("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    byId("pause").textContent = isPaused ? "Go on" : "Pause";
    if (isPaused) state(); else show();
  });

  const source = new EventSource("/live");
  source.addEventListener("open", () => { isConnected = true; state(); });
  source.addEventListener("error", () => { isConnected = false; state(); });
  source.addEventListener("history", (event) => { points = JSON.parse(event.data).slice(-SECONDS); });
  source.addEventListener("second", (event) => {
    const second = JSON.parse(event.data);
    const isNew = points.length === 0 || points[points.length - 1].unix_ms !== second.unix_ms;
    if (isNew) points.push(second);
    points = points.slice(-SECONDS);
    latest = second;
    if (!isPaused) show();
  });
})();
