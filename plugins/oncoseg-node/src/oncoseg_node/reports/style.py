"""How the page looks: dark on light, on any screen and on A4. Decisions differ by sign and word, not by colour."""

from __future__ import annotations

STYLE = """
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,"Segoe UI","DejaVu Sans",sans-serif;color:#1b1f24;background:#fff;
max-width:1120px;margin:0 auto;padding:1.2rem}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .3rem}
h2{font-size:1.15rem;margin:2rem 0 .6rem;padding-bottom:.25rem;border-bottom:2px solid #1b1f24;
break-after:avoid}
h3{font-size:1rem;margin:1rem 0 .4rem;break-after:avoid}
p{margin:.4rem 0}
.banner{border:2px solid #8a3b00;background:#fff4e5;padding:.55rem .9rem;border-radius:6px;margin:.2rem 0 1rem}
.banner b{letter-spacing:.04em}
.meta{color:#57606a}
.tiles{display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0}
.tile{flex:1 1 8rem;min-width:0;border:1px solid #c5ccd3;border-radius:6px;padding:.55rem .8rem;
display:flex;gap:.6rem;align-items:center}
.tile strong{font-size:1.7rem;line-height:1}
.tile svg{width:26px;height:26px;flex:none}
.attention{margin:.6rem 0;padding:0;list-style:none}
.attention li{display:flex;gap:.55rem;padding:.3rem 0;border-bottom:1px solid #e3e7eb;break-inside:avoid}
.attention svg,.decision svg{width:16px;height:16px;flex:none;vertical-align:-3px;margin-right:.3rem}
.attention svg{margin-top:3px}
table{border-collapse:collapse;width:100%;margin:.4rem 0 .8rem}
th,td{padding:.32rem .55rem;border-bottom:1px solid #d8dde2;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{font-size:.82rem;color:#3d444d;border-bottom:1.5px solid #57606a;vertical-align:bottom;overflow-wrap:normal}
tr{break-inside:avoid}thead{display:table-header-group}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.keep{white-space:nowrap}
.small{font-size:.85rem;color:#3d444d}
.methods div{white-space:nowrap}
.by{overflow-wrap:break-word}
.swatch{display:inline-block;width:14px;height:14px;border:1px solid #1b1f24;border-radius:3px;
vertical-align:-2px;margin-right:.45rem;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
figure{margin:0 0 1rem;break-inside:avoid}
figcaption{margin-bottom:.25rem}
figure>svg{width:100%;height:auto;display:block}
code{font:12px/1.4 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.1rem 1.4rem;margin:.3rem 0}
.facts div{display:flex;justify-content:space-between;gap:1rem;border-bottom:1px solid #e3e7eb;padding:.2rem 0}
.facts span:first-child{color:#57606a}
.facts span:last-child{text-align:right;overflow-wrap:anywhere}
ul.plain{margin:.3rem 0;padding-left:1.2rem}
.reasons{min-width:11rem}
.together{break-inside:avoid}
@page{size:A4;margin:12mm}
@media print{body{font-size:8.5pt;padding:0 1px;max-width:none}h1{font-size:15pt}h2{font-size:10.5pt;margin-top:1rem}
.small{font-size:7.5pt}code{font-size:7pt}.tile strong{font-size:14pt}.tile svg{width:20px;height:20px}
th,td{padding:.2rem .4rem}th{font-size:7.5pt}.facts{font-size:8pt;grid-template-columns:repeat(4,1fr);gap:0 1rem}
figure{margin-bottom:.6rem}figure>svg{width:86%}.overview>svg{width:62%}}
"""

SIGNS = {
    "written": '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="7.2" fill="#0b5cad"/>'
    '<path d="M4.3 8.3l2.6 2.6 4.9-5.4" fill="none" stroke="#fff" stroke-width="1.8"/></svg>',
    "marked": '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M8 1L15.4 14.6H.6z" fill="#f0b000" '
    'stroke="#1b1f24" stroke-width=".9"/><path d="M8 5.4v4.7M8 11.4v1.7" stroke="#1b1f24" stroke-width="1.7"/></svg>',
    "left out": '<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="1" y="1" width="14" height="14" rx="2" '
    'fill="#fff" stroke="#1b1f24" stroke-width="1.5"/><path d="M4.6 4.6l6.8 6.8M11.4 4.6l-6.8 6.8" stroke="#1b1f24" '
    'stroke-width="1.8"/></svg>',
    "waiting": '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="7" fill="#fff" stroke="#57606a" '
    'stroke-width="1.5"/><path d="M8 3.8V8l3 1.8" fill="none" stroke="#57606a" stroke-width="1.5"/></svg>',
}
"""By decision, and ``waiting``: drawn, since not every font has such signs."""
