package page

// text is the page. It is well-formed XML too, so that a test can read it.
const text = `<!DOCTYPE html>
{{- define "answer"}}{{- with .Packet}}
<p class="packet">{{show .}}</p>
{{- end}}
<p class="verdict {{.Verdict}}">{{show .Summary}}</p>
{{- range .Notes}}
<p class="note"><b>Note:</b> {{show .}}</p>
{{- end}}
{{- with .Cure}}
<p class="cure"><b>What mends it:</b> {{show .}}</p>
{{- end}}
{{- with facts .}}
<table class="facts">
{{- range .}}
<tr><th scope="row">{{show .Name}}</th><td>{{show .Value}}</td></tr>
{{- end}}
</table>
{{- end}}
{{- range hooks .Steps}}
<details open="open" class="hook"><summary>{{show .Name}}</summary>
{{- range .Runs}}
{{- if .Fold}}
<details class="fold"><summary>{{.Fold}}</summary>{{template "steps" .Steps}}</details>
{{- else}}{{template "steps" .Steps}}{{end}}
{{- end}}
</details>
{{- end}}
{{- with .Filters}}
<div class="filters"><p>What may still filter, translate or mark it, and was not looked at:</p>
<ul>
{{- range .}}<li>{{show .}}</li>{{end -}}
</ul></div>
{{- end}}
{{- end}}
{{- define "steps"}}
<table class="steps">
{{- range .}}
<tr{{if .Decides}} class="decides"{{end}}><td class="object">{{show .Object}}</td><td>{{if .Decides}}<b>▶ </b>{{end}}{{show .Result}}</td></tr>
{{- end}}
</table>
{{- end}}
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="color-scheme" content="light dark"/>
<title>{{.Verdict}}: {{show .Packet}}</title>
<style>
:root { --text: #1b1f24; --faint: #57606a; --page: #ffffff; --line: #d0d7de; --good: #1a7f37; --bad: #b50909; --unsure: #8a5a00; --shade: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --faint: #9aa5b1; --page: #0f1318; --line: #343c46; --good: #4cc466; --bad: #ff7b72; --unsure: #e3b341; --shade: #1a2028; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 96rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 0; }
.ways { display: grid; gap: 2.5rem; grid-template-columns: minmax(0, 1fr); }
@media screen and (min-width: 72rem) { .ways.two { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } }
.packet, .object, .facts td { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
.packet { font-size: 1.05rem; font-weight: 600; }
.verdict { font-weight: 600; padding: .7rem .9rem; border-left: .45rem solid var(--good); background: var(--shade); overflow-wrap: anywhere; }
.dropped { border-color: var(--bad); }
.unknown { border-color: var(--unsure); }
.cure, .note { padding-left: 1.35rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .3rem 0; }
td, th { padding: .2rem .8rem .2rem 0; vertical-align: top; text-align: left; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 400; color: var(--faint); width: 9rem; }
.steps td.object { width: 50%; }
.decides td { font-weight: 600; background: var(--shade); }
summary { cursor: pointer; font-weight: 600; margin-top: .9rem; }
.fold { margin-left: 1rem; }
.fold summary { font-weight: 400; color: var(--faint); margin-top: .2rem; }
footer { margin-top: 2rem; color: var(--faint); font-size: .85rem; border-top: 1px solid var(--line); padding-top: .5rem; }
@media print {
  :root { --text: #000000; --faint: #444444; --page: #ffffff; --line: #bbbbbb; --good: #1a7f37; --bad: #b50909; --unsure: #8a5a00; --shade: #f3f5f7; }
  body { padding: 0; font-size: 10pt; }
  .verdict { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  tr, .verdict, .cure, .note { break-inside: avoid; }
  .way + .way { break-before: page; }
}
</style>
</head>
<body>
<h1>Which way does this packet go?</h1>
<div class="ways{{if .Reply}} two{{end}}">
<section class="way">
<h2>The packet</h2>
{{- template "answer" .Answer}}
</section>
{{- with .Reply}}
<section class="way">
<h2>The answer to it</h2>
{{- template "answer" .}}
</section>
{{- end}}
</div>
<footer>Worked out{{with .Made.By}} by {{show .}}{{end}}{{with .Made.From}} from {{show .}}{{end}}{{with .Made.At}} at {{show .}}{{end}}, without sending a packet.</footer>
</body>
</html>
`
