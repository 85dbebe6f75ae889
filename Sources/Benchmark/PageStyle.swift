/// Colours are told apart in both themes and by most who confuse some; every line and bar also has its name beside it.
let pageStyle = """
    :root { color-scheme: light dark;
      --ground: #fbfbfa; --card: #ffffff; --ink: #1d2126; --soft: #626a73; --rule: #dfe2e6; --bad: #b3261e; --good: #1a7340; --zebra: #f4f5f6;
      --run0: #0b6bcb; --run1: #d9660a; --run2: #12805c; --run3: #a3319f; --run4: #8a6d00; --run5: #c22a4a; --run6: #4b5563; --run7: #0e8a99; }
    @media (prefers-color-scheme: dark) { :root {
      --ground: #15181c; --card: #1d2126; --ink: #e8eaed; --soft: #a2abb5; --rule: #363c44; --bad: #ff8a80; --good: #6fd39a; --zebra: #22272d;
      --run0: #6db3f8; --run1: #f6a560; --run2: #5bd1a5; --run3: #e28fde; --run4: #e0c341; --run5: #ff8fa6; --run6: #b3bcc7; --run7: #5fd0de; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
    main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 64px; }
    h1 { font-size: 1.5rem; margin: 0 0 4px; overflow-wrap: anywhere; }
    h2 { font-size: 1.15rem; margin: 36px 0 4px; }
    h3 { font-size: .95rem; margin: 0 0 8px; }
    p { margin: 0 0 12px; color: var(--soft); max-width: 78ch; overflow-wrap: anywhere; }
    .runs { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); margin: 16px 0; }
    .cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); margin-top: 12px; }
    .card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 14px 16px; min-width: 0; }
    .run { border-left: 5px solid var(--color); }
    .run b { overflow-wrap: anywhere; }
    main > dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 12px; margin: 6px 0; font-size: .85rem; }
    dt { color: var(--soft); }
    dd { margin: 0; overflow-wrap: anywhere; }
    .run dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 12px; margin: 6px 0 0; font-size: .85rem; }
    .bad { color: var(--bad); font-weight: 600; }
    .runs.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); }
    .good { color: var(--good); font-weight: 600; }
    .cards.broad { grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); }
    .card.wide { grid-column: 1 / -1; }
    .bar { display: grid; grid-template-columns: minmax(60px, 10.5em) 1fr repeat(var(--cells), 6.2em); gap: 10px; align-items: center; font-size: .85rem;
      margin: 3px 0; font-variant-numeric: tabular-nums; }
    .card.wide .bar { grid-template-columns: minmax(90px, 24ch) 1fr repeat(var(--cells), 6.6em); }
    .card.titles .bar { grid-template-columns: minmax(90px, 26em) 1fr repeat(var(--cells), 6.6em); }
    .bar > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
    .heads > span { color: var(--soft); font-size: .78rem; white-space: normal; line-height: 1.2; align-self: end; }
    .bar > .side { color: var(--soft); }
    .bar > .side.bad { color: var(--bad); white-space: normal; }
    .track { position: relative; height: 20px; }
    .fill { position: absolute; inset: 0 auto 0 0; background: var(--color); border-radius: 0 3px 3px 0; min-width: 2px; opacity: .85; }
    .spread { position: absolute; top: 9px; height: 2px; background: var(--ink); }
    svg { display: block; width: 100%; height: auto; }
    svg text { fill: var(--soft); font-size: 11px; }
    svg .grid { stroke: var(--rule); stroke-width: 1; }
    svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
    svg path.raw { stroke-width: 1.2; stroke-dasharray: 3 3; }
    svg path.second { stroke-dasharray: 9 3; }
    svg path.third { stroke-dasharray: 9 3 2 3; }
    .key { overflow-wrap: anywhere; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: .82rem; color: var(--soft); margin-top: 4px; }
    .key span::before { content: ""; display: inline-block; width: 12px; height: 4px; border-radius: 2px; margin-right: 5px; vertical-align: middle;
      background: var(--color); }
    .key .second::before { background: linear-gradient(90deg, var(--color) 40%, transparent 40% 60%, var(--color) 60%); }
    .key .third::before { background: linear-gradient(90deg, var(--color) 50%, transparent 50% 75%, var(--color) 75%); }
    .scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; background: var(--card); margin-top: 12px; }
    table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100%; }
    th, td { padding: 5px 8px; text-align: right; white-space: nowrap; }
    th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--rule); }
    th { white-space: normal; vertical-align: bottom; }
    td.name, th.name { text-align: left; }
    td.name { white-space: normal; }
    tr.case td { font-weight: 600; background: var(--card); border-top: 1px solid var(--rule); }
    tbody tr { background: var(--card); }
    tbody tr:nth-child(even) { background: var(--zebra); }
    .scroll + p { margin-top: 16px; }
    ul { margin: 6px 0; padding-left: 20px; color: var(--soft); font-size: .9rem; }
    li { overflow-wrap: anywhere; }
    @media (max-width: 600px) {
      .bar, .card.wide .bar { grid-template-columns: repeat(auto-fit, minmax(5.2em, 1fr)); gap: 0 10px; margin: 8px 0; }
      .card:not(.wide) .bar, .card.titles .bar { grid-template-columns: repeat(var(--cells), 1fr); }
      .heads > span:nth-child(-n + 2) { display: none; }
      .bar > span:first-child, .bar > .track { grid-column: 1 / -1; text-align: left; }
      td.name { min-width: 9em; }
      .case span { position: sticky; left: 8px; display: inline-block; }
      .scroll tr:not(.case) > .name:first-child { position: sticky; left: 0; background: inherit; }
      thead tr { background: var(--card); }
      table.goals, .goals tbody, .goals tr, .goals td { display: block; }
      .goals thead { display: none; }
      .goals tr { padding: 6px 2px; border-top: 1px solid var(--rule); }
      .goals td { display: grid; grid-template-columns: 4.5em 1fr; padding: 1px 8px; text-align: left; white-space: normal; }
      .goals td::before { content: attr(data-head); color: var(--soft); font-weight: 400; }
    }
    """
