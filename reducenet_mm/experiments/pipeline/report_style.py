# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The look of the HTML report."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f4f6; color: #1f2937;
  font: 16px/1.55 system-ui, 'DejaVu Sans', sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 32px 64px; }
header p { margin: 0; color: #6b7280; }
h1 { margin: 0; font-size: 30px; letter-spacing: -.02em; }
h2 { margin: 44px 0 12px; font-size: 20px; }
.cards { display: flex; flex-wrap: wrap; gap: 14px; margin: 26px 0; }
.card { flex: 1 1 200px; display: flex; flex-direction: column;
  padding: 16px 18px; background: #fff; border-radius: 10px;
  border: 1px solid #e5e7eb; }
.card span { color: #6b7280; font-size: 14px; }
.card strong { font-size: 28px; letter-spacing: -.02em; }
.card small { color: #6b7280; }
.reading { margin: 0; padding: 18px 22px; background: #fff;
  border-left: 4px solid #0f766e; border-radius: 0 10px 10px 0; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; background: #fff;
  font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 10px 12px; border-bottom: 1px solid #e5e7eb;
  text-align: right; vertical-align: top; }
thead th { color: #6b7280; font-weight: 600; vertical-align: bottom; }
tbody th, thead th:first-child { text-align: left; white-space: nowrap; }
tbody th { font-weight: 600; }
tr.student th, tr.student td { background: #f0fdfa; }
td:nth-child(n+2) { white-space: nowrap; }
#networks td:nth-child(5) { white-space: normal; }
i { display: inline-block; width: 10px; height: 10px; margin-right: 8px;
  border-radius: 50%; }
.notes { color: #6b7280; font-size: 14px; }
ul.notes { padding-left: 18px; }
figure { margin: 0; padding: 18px; background: #fff; border-radius: 10px;
  border: 1px solid #e5e7eb; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { margin-top: 10px; color: #6b7280; font-size: 14px; }
summary { cursor: pointer; }
pre { padding: 14px; background: #fff; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 12px; }
"""
