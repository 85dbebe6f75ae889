/// What is shown: runs, throughput, latency, time, and every number.
let pageScript = #"""
    const runs = JSON.parse(document.getElementById("runs").textContent);
    const page = document.getElementById("page");
    const sum = errors => Object.values(errors).reduce((total, count) => total + count, 0);
    const keyOf = row => JSON.stringify([row.name, row.detail, row.clients, row.loop, row.rate]);
    const titleOf = row => [row.name, row.detail, `${row.clients} client${row.clients === 1 ? "" : "s"}`, row.rate && `open loop, ${number(row.rate)}/s`]
      .filter(Boolean).join(" · ");
    const rowError = row => sum(row.errors) ? ` ⚠\u00a0${sum(row.errors)} error${sum(row.errors) === 1 ? "" : "s"}` : "";

    // Cases in the order of their first appearance, each with the rows of the runs that have it.
    const cases = new Map();
    runs.forEach((run, index) => run.rows.forEach(row => {
      const key = keyOf(row);
      if (!cases.has(key)) cases.set(key, { title: titleOf(row), rows: [] });
      cases.get(key).rows.push({ row, run: index });
    }));
    const label = index => runs[index].label;
    const nameOf = ({ row, run }) => label(run) + (row.measured ? " †" : "");
    const withSpread = ({ value, low, high }) => number(value) + (low === undefined || low === high ? "" : ` (${number(low)}–${number(high)})`);
    const figure = (row, name) => (row.figures || []).find(candidate => candidate.name === name);

    const factsOf = run => Object.fromEntries([["target", run.target === run.label ? null : run.target], ["content from", run.origin], ["started", run.startedAt],
      ["client", run.program], ...Object.entries(run.machine), ["seed", run.seed], ...Object.entries(run.plan || {}),
      ["content", run.rows.some(row => row.name !== "push" && row.bytes) && (run.isVerified ? "every byte compared" : "not compared")],
      ["ended", run.isInterrupted ? "early, by the user" : null]].filter(([, value]) => value));
    const listOf = facts => el("dl", {}, ...Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

    // What is the same for all runs is said once.
    const heading = () => {
      const failed = runs.reduce((total, run) => total + run.rows.reduce((count, row) => count + (row.isPart ? 0 : sum(row.errors)), 0), 0);
      page.append(el("h1", {}, runs.length === 1 ? `Registry benchmark: ${label(0)}` : `Registry benchmark: ${runs.length} runs compared`));
      page.append(failed ? el("p", { class: "bad" }, `${failed} operation${failed === 1 ? "" : "s"} failed: see Errors and notes.`)
        : el("p", {}, cases.size ? "No operation failed." : "Nothing was measured."));
      const facts = runs.map(factsOf), [first] = facts;
      const common = runs.length > 1 ? Object.keys(first).filter(name => facts.every(other => other[name] === first[name])) : [];
      if (common.length) page.append(listOf(Object.fromEntries(common.map(name => [name, first[name]]))));
      const own = facts.map(all => Object.keys(all).filter(name => !common.includes(name)).length);
      page.append(el("div", { class: Math.max(...own) < 3 ? "runs small" : "runs" }, ...runs.map((run, index) => el("div", { class: "card run", "--color": colour(index) },
        el("b", {}, label(index)), listOf(Object.fromEntries(Object.entries(facts[index]).filter(([name]) => !common.includes(name))))))));
    };

    const section = (title, text, cards, kind = "cards") => {
      if (!cards.length) return;
      page.append(el("h2", {}, title), el("p", {}, text), el("div", { class: kind }, ...cards));
    };
    const card = (title, ...content) => el("div", { class: "card" }, el("h3", {}, title), ...content);
    const key = entries => el("div", { class: "key" }, ...entries.map(({ row, run }) =>
      el("span", { "--color": colour(run), class: lap(run) }, nameOf({ row, run }), rowError(row) ? el("b", { class: "bad" }, rowError(row)) : null)));

    const unit = inBytes => inBytes ? "MiB/s" : "operations/s";
    const isInBytes = rows => rows.some(({ row }) => row.operations && row.bytes >= 32768 * row.operations);
    const speedOf = (row, inBytes) => figure(row, unit(inBytes))?.value ?? (inBytes ? row.mibPerSecond : row.operationsPerSecond);
    const p99Of = row => row.latency ? time(figure(row, "p99 ms")?.value * 1000 || row.latency.p99) : "–";
    // Columns of figures: all but those that stand there in another form.
    const figureNames = rows => [...new Set(rows.flatMap(({ row }) => (row.figures || []).map(entry => entry.name)))]
      .filter(name => name !== "MiB/s" && name !== "operations/s");
    const cost = rows => figureNames(rows).filter(name => !/^p\d+ ms$/.test(name));
    const bar = (rows, name, color, cells) => ({ row }) => {
      const inBytes = isInBytes(rows), spread = figure(row, unit(inBytes));
      return { name, value: speedOf(row, inBytes), low: spread?.low, high: spread?.high, color, bad: sum(row.errors) > 0,
        cells: [...cells, sum(row.errors) && !row.operations ? rowError(row) : p99Of(row) + rowError(row)] };
    };

    // One run is compared with itself: a bar for each case. Several are compared case by case, with the first.
    const oneRun = all => [true, false].map(inBytes => all.filter(({ rows }) => isInBytes(rows) === inBytes)).filter(some => some.length)
      .map(some => el("div", { class: "card wide titles" },
        ...bars(some.flatMap(({ title, rows }) => rows.map(bar(rows, title, colour(0), []))), number, [unit(isInBytes(some[0].rows)), "p99"], 60)));
    const beside = ({ title, rows }) => {
      const [first] = rows, inBytes = isInBytes(rows), names = cost(rows);
      const ratio = row => `${number(speedOf(row, inBytes) / speedOf(first.row, inBytes))} ×`;
      const entries = rows.map(entry => bar(rows, nameOf(entry), colour(entry.run), [entry === first ? "" : ratio(entry.row)])(entry));
      rows.forEach(({ row }, index) => entries[index].cells.push(...names.map(name => figure(row, name) ? number(figure(row, name).value) : "–")));
      const heads = [unit(inBytes), `× ${label(first.run).length < 10 ? label(first.run) : "the first"}`, "p99", ...names.map(name => name.replace("server ", ""))];
      const node = card(title, ...bars(entries, number, heads, names.length ? 28 : 18));
      if (names.length) node.classList.add("wide");
      return node;
    };
    const throughput = () => {
      // How often a part comes is the pace of the whole.
      const all = [...cases.values()].filter(({ rows }) => rows.some(({ row }) => !row.isPart && (row.operations || sum(row.errors))));
      const hasRounds = runs.some(run => run.rows.some(row => row.figures));
      section("Throughput", "Longer is better. The p99 is the latency that one operation in a hundred exceeds; of fewer, it is the slowest."
        + (runs.length > 1 ? " Multiples are those of the first one's throughput." : "")
        + (hasRounds ? " Medians of all rounds; a thin line spans the slowest and the fastest." : ""),
        runs.length === 1 ? oneRun(all) : all.map(beside), "cards broad");
    };

    const goals = () => {
      const all = runs.flatMap(run => run.goals || []);
      if (!all.length) return;
      const met = all.filter(goal => goal.isMet).length;
      const heads = ["work", "what", "beside", "found", "goal", ""];
      const line = goal => el("tr", {}, ...[goal.row, goal.name, goal.against || "–", withSpread(goal), `${goal.bound} ${number(goal.limit)}`,
        goal.isMet ? "met" : "missed"].map((text, index) =>
        el("td", { class: index < 3 ? "name" : index < 5 ? "" : goal.isMet ? "good" : "bad", "data-head": heads[index] }, text)));
      page.append(el("h2", {}, `Goals: ${met} of ${all.length} met`),
        el("p", {}, `What ${label(0)} is to reach, as a ratio to the best of those beside it in the same round; the median of all rounds, lowest to highest.`),
        el("div", { class: "scroll" }, el("table", { class: "goals" }, el("thead", {}, el("tr", {},
          ...heads.map((name, index) => el("th", { class: index < 3 ? "name" : "" }, name)))), el("tbody", {}, ...all.map(line)))));
    };

    const latency = () => {
      const cards = [...cases.values()].filter(({ rows }) => rows.some(({ row }) => row.latency?.count >= 8)).map(({ title, rows }) => {
        const shown = rows.filter(({ row }) => row.latency?.count >= 8);
        const most = Math.max(...shown.map(({ row }) => row.latency.count));
        const end = Math.max(10, Math.min(1e5, most));
        const lines = shown.flatMap(({ row, run }) => {
          // The slowest of n is drawn where one in n is.
          const points = ({ count, curve }) => curve.map(({ percentile, microseconds }) =>
            [Math.min(1 / Math.max(1 - percentile / 100, 1e-9), count, end), Math.max(microseconds, 1)]);
          const own = [{ points: points(row.latency), color: colour(run), lap: lap(run), name: label(run) }];
          if (row.measuredLatency) own.push({ points: points(row.measuredLatency), color: colour(run), raw: true, name: `${label(run)}, as measured` });
          return own;
        });
        const all = lines.flatMap(line => line.points.map(([, value]) => value));
        const low = Math.min(...all) * 0.8, high = Math.max(...all) * 1.25;
        const names = [[1, "0"], [2, "50"], [10, "90"], [100, "99"], [1000, "99.9"], [1e4, "99.99"], [1e5, "99.999"]].filter(([x]) => x <= end * 1.01);
        return card(title, plot({
          lines, xTitle: "percentile", yTitle: "latency",
          x: { low: 1, high: end, log: true, ticks: names.map(([x]) => x), text: value => names.find(([x]) => x === value)[1] },
          y: { low, high, log: true, ticks: logarithmic(low, high), text: time },
        }), key(shown));
      });
      section("Latency", "Lower is better; the further right, the rarer. Both axes are logarithmic. A closed loop is corrected for coordinated " +
        "omission where each client asked ten times or more; an open loop counts from when a request was due (its parts from when they were sent), and a herd from the common start. " +
        "Failed operations count where they took longer than the median. A dotted line is as measured, where that is something else.", cards);
    };

    const overTime = () => {
      const cards = [...cases.values()].filter(({ rows }) => rows.some(({ row }) => row.timeline.length > 4)).map(({ title, rows }) => {
        const shown = rows.filter(({ row }) => row.timeline.length > 1);
        const inBytes = isInBytes(shown);
        const value = moment => inBytes ? moment.mibPerSecond : moment.operationsPerSecond;
        const lines = shown.map(({ row, run }) => ({
          points: row.timeline.map((moment, index) =>
            [((index ? row.timeline[index - 1].seconds : 0) + moment.seconds) / 2, value(moment)]),
          color: colour(run), lap: lap(run), name: label(run),
        }));
        const high = Math.max(...lines.flatMap(line => line.points.map(([, y]) => y)), 0.001) * 1.08;
        const end = Math.max(...shown.map(({ row }) => row.seconds));
        return card(title, plot({
          lines, xTitle: "seconds", yTitle: inBytes ? "MiB/s" : "operations/s",
          x: { low: 0, high: end, ticks: steps(end, 5), text: number }, y: { low: 0, high, ticks: steps(high, 4), text: number },
        }), key(shown));
      });
      section("Throughput over time", "Dips are moments when the registry, the network or the client was held up.", cards);
    };

    // One run has a line for each case; several have a block of lines.
    const tableOf = columns => {
      const isOne = runs.length === 1;
      const head = el("tr", {}, el("th", { class: "name" }, isOne ? "case" : "run"), ...columns.map(([name]) => el("th", {}, name)));
      const lines = [...cases.values()].flatMap(({ title, rows }) => [
        isOne ? null : el("tr", { class: "case" }, el("td", { class: "name", colspan: columns.length + 1 }, el("span", {}, title))),
        ...rows.map(entry => el("tr", {}, el("td", { class: "name" }, isOne ? title : nameOf(entry)),
          ...columns.map(([name, value]) => el("td", { class: name === "errors" && sum(entry.row.errors) ? "bad" : "" }, value(entry.row))))),
      ]).filter(Boolean);
      return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines)));
    };

    const table = () => {
      const timed = pick => row => row.latency ? time(pick(row.latency)) : "–";
      page.append(el("h2", {}, "All numbers"),
        el("p", {}, "Client CPU is that of the measuring program in percent of one core: where it nears all cores, the client is what is measured."),
        tableOf([
          ["done", row => row.operations.toLocaleString("en-US")], ["errors", row => sum(row.errors)],
          ["MiB/s", row => row.bytes ? number(row.mibPerSecond) : "–"], ["ops/s", row => row.isPart ? "–" : number(row.operationsPerSecond)],
          ["p50", timed(l => l.p50)], ["p90", timed(l => l.p90)], ["p99", timed(l => l.p99)], ["p99.9", timed(l => l.p999)], ["max", timed(l => l.max)],
          ["p99 as measured", row => row.measuredLatency ? time(row.measuredLatency.p99) : "–"],
          ["client CPU", row => row.clientCPUSeconds ? `${Math.round(row.clientCPUSeconds / row.seconds * 100)} %` : "–"],
        ]));
      const names = figureNames(runs.flatMap(run => run.rows.map(row => ({ row }))));
      if (names.length) page.append(el("p", {}, "Medians of all rounds, lowest to highest:"),
        tableOf(names.map(name => [name, row => figure(row, name) ? withSpread(figure(row, name)) : "–"])));
    };

    const notes = () => {
      const lists = runs.map((run, index) => {
        const errors = run.rows.filter(row => !row.isPart).flatMap(row => Object.entries(row.errors).map(([kind, count]) => `${titleOf(row)}: ${kind} × ${count}`));
        const older = run.rows.filter(row => row.measured).map(row => `† ${titleOf(row)}: ${row.measured}`);
        if (!errors.length && !older.length && !run.notes.length) return null;
        return el("div", { class: "card run", "--color": colour(index) }, el("b", {}, label(index)), el("ul", {},
          ...errors.map(text => el("li", { class: "bad" }, text)), ...[...older, ...run.notes].map(text => el("li", {}, text))));
      }).filter(Boolean);
      if (lists.length) page.append(el("h2", {}, "Errors and notes"), el("div", { class: "runs" }, ...lists));
    };

    heading();
    goals();
    throughput();
    latency();
    overTime();
    table();
    notes();
    """#
