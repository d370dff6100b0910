"""The report's style sheet: system fonts, dark and light, wide and narrow, nothing fetched."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1d2327; --soft: #5b6770; --rule: #dfe3e4; --card: #f3f5f4;
  --student: #0b6e99; --teacher: #b0482e; --floor: #7a6a3a; --warn: #8a4b00; --warn-card: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181b; --ink: #e6e9ea; --soft: #9aa7ae; --rule: #303940;
  --card: #1c2226; --student: #5cc0ea; --teacher: #f0926f; --floor: #cbb878; --warn: #ffcf8a; --warn-card: #33281a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 1.25rem; margin: 40px 0 8px; }
h3 { font-size: 1rem; margin: 24px 0 6px; } p { margin: 6px 0; } .soft, .note, caption { color: var(--soft); }
.note { font-size: .86rem; } section.comparison + section.comparison { border-top: 2px solid var(--rule); margin-top: 56px;
  padding-top: 24px; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; padding: 0; list-style: none; }
.facts li { background: var(--card); border-radius: 8px; padding: 10px 14px; min-width: 130px; flex: 1 1 130px; }
.facts b { display: block; font-size: 1.35rem; line-height: 1.25; overflow-wrap: anywhere; }
.facts span { color: var(--soft); font-size: .85rem; }
.warn { background: var(--warn-card); color: var(--warn); border-radius: 8px; padding: 10px 16px; margin: 12px 0; }
.warn p { margin: 3px 0; }
.scroll { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; min-width: 100%; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; color: var(--soft); white-space: normal; min-width: 4.4em; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
td.text { text-align: left; white-space: normal; min-width: 12em; }
tr.teacher td { font-weight: 600; } tr.teacher td:first-child { color: var(--teacher); }
tr.student td:first-child { color: var(--student); font-weight: 600; } tr.floor td { color: var(--soft); }
td.win { background: color-mix(in srgb, var(--student) 18%, transparent); }
svg { display: block; width: 100%; height: auto; max-width: 980px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg text.tick { fill: var(--soft); font-size: 11px; }
svg text.label { fill: var(--soft); } svg text.name { font-weight: 600; paint-order: stroke; stroke: var(--paper);
  stroke-width: 3px; stroke-linejoin: round; }
svg text.floor-name { fill: var(--floor); font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
line.floor { stroke: var(--floor); stroke-width: 1.3; stroke-dasharray: 6 5; }
.frontier { fill: none; stroke: var(--student); stroke-width: 2; opacity: .55; }
.error { stroke: var(--ink); stroke-width: 1.5; }
.mark { stroke: var(--paper); stroke-width: 1.5; fill: var(--student); } .mark.teacher { fill: var(--teacher); }
.mark.other { fill: var(--soft); } .mark.student:not(.best) { fill: var(--paper); stroke: var(--student); stroke-width: 2; }
.panel .mark.student { fill: var(--student); stroke: none; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 8px; }
svg.panel { max-width: 260px; } svg.plot.narrow { display: none; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px 28px; align-items: start; }
svg.figure { max-width: 560px; } svg.map { max-width: none; } svg.map text { font-size: 11px; }
.bar { fill: var(--student); } .bar.against { fill: var(--teacher); } svg text.against { fill: var(--teacher); }
svg text.for { fill: var(--student); } .zero { stroke: var(--ink); stroke-width: 1; }
.box { fill: color-mix(in srgb, var(--student) 30%, var(--paper)); stroke: var(--student); stroke-width: 1.5; }
.whisker, .median { stroke: var(--student); stroke-width: 1.5; } .median { stroke-width: 3; } .mean { fill: var(--ink); }
.teacher .box { fill: color-mix(in srgb, var(--teacher) 30%, var(--paper)); stroke: var(--teacher); }
.teacher .whisker, .teacher .median { stroke: var(--teacher); }
.neighbours th { text-align: left; } h4 { margin: 18px 0 2px; }
.chip { display: inline-block; border-radius: 6px; padding: 1px 7px; margin: 2px 3px 2px 0; white-space: nowrap;
  background: color-mix(in srgb, var(--student) var(--part), transparent); }
.chip small, td small { color: var(--soft); } td.text.wide { min-width: 17em; }
td.bar-cell { background: linear-gradient(to right, color-mix(in srgb, var(--student) 22%, transparent) var(--part),
  transparent var(--part)); } td.bar-cell.teacher { background: linear-gradient(to right, color-mix(in srgb, var(--teacher)
  22%, transparent) var(--part), transparent var(--part)); }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { main { padding: 16px 12px 48px; } svg.plot.wide { display: none; }
  svg.plot.narrow { display: block; } h1 { font-size: 1.35rem; } th, td { padding: 5px 7px; }
  td.text.wide { min-width: 9.5em; font-size: .82rem; } }
@media print { .scroll { overflow: visible; } }
"""
