package actions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/actions"
)

const good = `action: app.deploy
version: 1.4.0
title: Deploy a release
risk: high
idempotent: false
params:
  tag:     {type: string, pattern: 'v\d{4}\.\d+\.\d+', max: 32, required: true}
  channel: {type: enum, values: [stable, beta], default: stable}
  grace:   {type: duration, min: 0s, max: 5m, default: 15s}
  token:   {type: string, secret: true}
result:
  previous: {type: string, aggregate: summary}
handler: {kind: exec, argv: [/usr/local/bin/app, deploy, "--channel=${channel}", --, "${params.tag}"], stdin: params, cwd: /srv/app}
check:   {kind: exec, argv: [/usr/local/bin/app, deploy, --dry-run, --, "${tag}"]}
undo:    {action: app.rollback, params: {to: "${result.previous}", tag: "${tag}"}}
limits:  {timeout: 60s, kill_after: 5s, output: 256KiB, concurrency: 1, queue: 4}
retry:   {attempts: 3, first: 1s, max: 30s, jitter: true, on: [unavailable, timeout]}
locks:   ["app:${node}"]
examples: [{params: {tag: v2026.11.3}}]
`

// directory makes a directory of files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(meant(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWholeDefinitionIsReadAndDescribed(t *testing.T) {
	dir := directory(t, map[string]string{"deploy.yaml": good, "README.md": "not one", ".hidden.yaml": "nor: this"})
	defs, err := actions.LoadDir(dir)
	if err != nil || len(defs) != 1 {
		t.Fatal(defs, err)
	}
	info := defs[0].Info()
	if info.Action != "app.deploy" || info.Version != "1.4.0" || info.Risk != muster.RiskHigh || len(info.Digest) != 64 {
		t.Fatalf("%+v", info)
	}
	var params map[string]map[string]any
	if err := json.Unmarshal(info.Params, &params); err != nil || params["tag"]["required"] != true || params["token"]["secret"] != true {
		t.Fatal(string(info.Params), err)
	}
	if strings.Contains(string(info.Params)+string(info.Result), "/usr/local") {
		t.Fatal("the description tells how it is done")
	}
}

func TestJSONAndYAMLOfOneDefinitionHaveOneDigest(t *testing.T) {
	asYAML, err := parse("a.yaml", "risk: read\nversion: 1.0.0\naction: a.b\ntitle: T\n"+
		"params:\n  n: {max: 9007199254740993, type: int}\nhandler:\n  argv: [/bin/true]\n  kind: exec\n")
	if err != nil {
		t.Fatal(err)
	}
	text := `{"action": "a.b", "version": "1.0.0", "title": "T", "risk": "read",
	"params": {"n": {"type": "int", "max": 9007199254740993}}, "handler": {"kind": "exec", "argv": ["/bin/true"]}}`
	asJSON, err := parse("a.json", text)
	if err != nil || asJSON.Digest() != asYAML.Digest() {
		t.Fatal(err, asJSON.Digest(), asYAML.Digest())
	}
	other, err := parse("a.json", strings.Replace(text, "0993", "0992", 1))
	if err != nil || other.Digest() == asJSON.Digest() {
		t.Fatal("digits above 2^53 do not count", err)
	}
}

// TestFaultsAreNamedWithFileAndLine replaces one thing in a good definition.
func TestFaultsAreNamedWithFileAndLine(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"risk: high", "risk: high\nrisky: true", "d.yaml:5: risky: no such field"},
		{"risk: high", "risk: high\nrisk: low", "d.yaml:5: risk: is there twice, first in line 4"},
		{"risk: high", "Risk: high", "d.yaml:4: Risk: no such field"},
		{"risk: high", "risk: grave", "d.yaml:4: risk: must be read"},
		{"title: Deploy a release", "title: 5", "d.yaml:3: title: must be a string"},
		{"title: Deploy a release", "title: ''", "d.yaml:3: title: must be one line"},
		{"version: 1.4.0", "version: 1.4", "d.yaml:2: version: must be a string"},
		{"version: 1.4.0", "version: '1.4'", "d.yaml:2: version: must be a version"},
		{"app.deploy", "App Deploy", "d.yaml:1: action: must be lower-case"},
		{"app.deploy", strings.Repeat("a", 65), "d.yaml:1: action:"},
		{"idempotent: false", "idempotent: maybe", "d.yaml:5: idempotent: must be true or false"},
		{"idempotent: false", "idempotent: &x false", "anchor is not allowed"},
		{"idempotent: false", "idempotent: !!bool false", "tag is not allowed"},
		{`'v\d{4}\.\d+\.\d+'`, `'a)|(?:b'`, "d.yaml:7: params.tag.pattern: error parsing regexp"},
		{"max: 32", "max: 0x20", "d.yaml:7: "},
		{"max: 32", "max: -1", "d.yaml:7: params.tag.max: is no bound"},
		{"max: 32", "max: 70000", "d.yaml:7: params.tag.max: must be at most 65536"},
		{"max: 32", "min: 33, max: 32", "params.tag.min: must not be above max"},
		{"max: 32", "shape: round", "d.yaml:7: params.tag.shape: no such field"},
		{`'v\d{4}`, `'v\d{4}(`, "d.yaml:7: params.tag.pattern: error parsing regexp"},
		{"required: true", "required: true, default: v1", "params.tag.default"},
		{"type: string, secret", "type: int, secret", "params.token.secret: is for strings only"},
		{"secret: true", "secret: true, default: x", "params.token.default: a secret has no default"},
		{"default: stable", "default: nightly", "d.yaml:8: params.channel.default: must be one of stable, beta"},
		{"type: enum, values: [stable, beta]", "type: enum", "params.channel.values"},
		{"type: duration", "type: weekday", "d.yaml:9: params.grace.type: must be one of string"},
		{"min: 0s", "min: 7", "params.grace.min: is no bound"},
		{"  grace: ", "  Grace: ", "params.Grace: a parameter's name"},
		{"aggregate: summary", "aggregate: mode", "d.yaml:12: result.previous.aggregate"},
		{"kind: exec, argv: [/usr/local/bin/app, deploy, \"", "kind: http, url: x, argv: [\"", "d.yaml:13: handler.argv: is for exec"},
		{"handler: {kind: exec", "handler: {kind: go", "d.yaml:13: handler.kind: go actions are part of a program"},
		{"handler: {kind: exec", "handler: {kind: builtin", "not defined in files"},
		{"handler: {kind: exec", "handler: {kind: shell", "must be exec or http"},
		{"cwd: /srv/app", "run_as: no-such-user", "d.yaml:13: handler.run_as: no user no-such-user on this machine"},
		{"cwd: /srv/app", "cwd: srv", "handler.cwd: must be an absolute path"},
		{"cwd: /srv/app", "stdout: xml", "handler.stdout: must be json"},
		{"stdin: params", "stdin: all", "handler.stdin: must be params"},
		{"[/usr/local/bin/app, deploy, \"", "[app, deploy, \"", "handler.argv: must begin with the absolute path"},
		{`"--channel=${channel}"`, `"--channel=${chanel}"`, "d.yaml:13: handler.argv.2: no parameter chanel"},
		{`"--channel=${channel}"`, `"--channel=x${channel}"`, "must be a whole argument"},
		{`"--channel=${channel}"`, `"${channel}${channel}"`, "must be a whole argument"},
		{`"--channel=${channel}"`, `"--channel=${channel"`, "must be a whole argument"},
		{`"--channel=${channel}"`, `"--token=${token}"`, "token is secret"},
		{`"--channel=${channel}"`, `"${tag2}"`, "no parameter tag2"},
		{`"--channel=${channel}"`, `"a\0b"`, "has control characters"},
		{"tag: \"${tag}\"", "tag: \"${tug}\"", "d.yaml:15: undo.params.tag: ${tug} is not declared"},
		{"action: app.rollback", "action: Rollback", "undo.action"},
		{"timeout: 60s", "timeout: 61m", "d.yaml:16: limits.timeout: must be at most 1h"},
		{"timeout: 60s", "timeout: 0s", "d.yaml:16: limits.timeout: \"0s\" is not a duration above 0"},
		{"kill_after: 5s", "kill_after: 0s", "d.yaml:16: limits.kill_after: \"0s\" is not a duration above 0"},
		{"concurrency: 1", "concurrency: 0", "d.yaml:16: limits.concurrency: must be from 1"},
		{"tag: \"${tag}\"", "tag: \"${result.previous\"", "d.yaml:15: undo.params.tag: a placeholder ${x} is not closed"},
		{"tag: \"${tag}\"", "tag: \"${params.token}\"", "d.yaml:15: undo.params.tag: ${params.token} is secret"},
		{"timeout: 60s", "timeout: -1s", "d.yaml:16: limits.timeout: \"-1s\" is not a duration"},
		{"timeout: 60s", "timeout: 60", "d.yaml:16: limits.timeout: "},
		{"256KiB", "256 KB", "\"256 KB\" is not a size"},
		{"256KiB", "1B", "limits.output: must be from 1KiB"},
		{"concurrency: 1", "concurrency: -1", "limits.concurrency"},
		{"queue: 4", "queue: -4", "limits.queue"},
		{"attempts: 3", "attempts: 0", "d.yaml:17: retry.attempts"},
		{"max: 30s", "max: 61m", "d.yaml:17: retry.max: must be at most 1h0m0s"},
		{"first: 1s", "first: 31s", "retry.max: must not be below first"},
		{"[unavailable, timeout]", "[always]", "retry.on.0: must be"},
		{"app:${node}", "app:${tag}", "d.yaml:18: locks.0"},
		{"{tag: v2026.11.3}", "{tag: v26}", "d.yaml:19: examples.0.params: tag: must match"},
		{"{tag: v2026.11.3}", "{}", "examples.0.params: tag: must be given"},
		{"action: app.deploy", "action: app.deploy\n? [a]\n: b", "d.yaml:3: found an invalid key"},
		{"action: app.deploy", "action: [app", "d.yaml:"},
		{"examples: ", "---\nexamples: ", "exactly one document"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%q is not in the definition", c.old)
		}
		_, err := parse("d.yaml", text)
		if muster.KindOf(err) != muster.Invalid || !strings.HasPrefix(err.Error(), "d.yaml:") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.new, err, c.want)
		}
	}
}

func TestOtherParametersNeedTheirOwnPlace(t *testing.T) {
	for rest, want := range map[string]string{
		"params: {x: {type: list}}\nhandler: {kind: exec, argv: [/bin/x, '${x}']}":                                                              "x is a list: use stdin",
		"params: {x: {type: int, required: true}}\nhandler: {kind: exec, argv: ['${x}']}":                                                       "absolute path",
		"params: {x: {type: int, pattern: a}}\nhandler: {kind: exec, argv: [/bin/x]}":                                                           "pattern: is for strings only",
		"params: {x: {type: bool, min: 1}}\nhandler: {kind: exec, argv: [/bin/x]}":                                                              "is not for this type",
		"params: {x: {type: float, min: 1e999999}}\nhandler: {kind: exec, argv: [/bin/x]}":                                                      "is no bound",
		"handler: {kind: exec, argv: [/bin/x]}\nundo: {action: a, params: {X: 1}}":                                                              "is no parameter's name",
		"handler: {kind: exec, argv: [/bin/x]}\nresult: {k: {type: string, secret: true}}\nundo: {action: app.y, params: {k: \"${result.k}\"}}": "${result.k} is secret",
		"handler: {kind: exec, argv: [/bin/x]}\ncheck: {kind: go}":                                                                              "check.kind: go actions are part of a program",
		"handler: {kind: exec, argv: [/bin/x]}\nresult: {Bad: {type: string}}":                                                                  "result.Bad",
		"params: {x: {type: string, required: true}}\nhandler: {kind: exec, argv: [/bin/x, '${x}']}\n" +
			"examples: [{params: {x: -rf}}]": "examples.0.params: x: must not begin with -",
	} {
		_, err := parse("d.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\n"+rest+"\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rest, err, want)
		}
	}
}

func TestParameterIsNeverTheTextThatAShellRuns(t *testing.T) {
	for argv, ok := range map[string]bool{
		"[/bin/sh, -c, '${c}']": false, "[/bin/bash, -ec, '${c}']": false, "[/bin/bash, -ce, '${c}']": false, "[/usr/bin/env, bash, -lc, '${c}']": false,
		"[/bin/dash, -c, -e, '${c}']": false, "[/bin/sh, -c, --, '${c}']": false, "[/bin/busybox, ash, -c, '${c}']": false,
		"[/usr/bin/env, -S, /bin/zsh, -o, pipefail, -c, '${c}']": false, "[/bin/sh, -e, '${c}']": false, "[/bin/sh, -e, --, '${c}']": true,
		"[/bin/bash, -c, -o, pipefail, '${c}']": false, "[/bin/bash, -co, pipefail, '${c}']": false, "[/bin/bash, -c, +x, '${c}']": false,
		"[/bin/bash, -o, pipefail, -c, 'echo \"$1\"', sh, '${c}']": true, "[/bin/bash, -ceo, pipefail, 'echo \"$1\"', sh, '${c}']": true,
		"[/bin/sh, -c, --, 'echo \"$1\"', sh, '${c}']": true, "[/bin/sh, -c, ':', -c, '${c}']": true,
		"[/usr/bin/fish, -C, '${c}']": false, "[/usr/bin/fish, -c, x, -C, '${c}']": false, "[/usr/bin/fish, '--init-command=${c}']": false, "[/usr/bin/fish, -c, x, --, '${c}']": true,
		"[/bin/sh, -c, 'echo \"$1\"', sh, '${c}']": true, "[/bin/sh, /srv/run, -c, '${c}']": true, "[/bin/tar, -c, '${c}']": true,
	} {
		_, err := parse("d.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\n"+
			"params: {c: {type: string, required: true, allow_dash: true}}\nhandler: {kind: exec, argv: "+argv+"}\n")
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "must not be the text that an interpreter runs") {
			t.Errorf("%s: %v", argv, err)
		}
	}
}

func TestJSONFaultsHaveLinesToo(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"action\": \"a.b\",\n\"acton\": \"a.c\"}": "d.json:3: acton: no such field",
		"{\n\"action\": \"a.b\",\n\"title\": 5}":       "d.json:3: title: must be a string",
		"{\n\"action\": \"a.b\"\n":                     "d.json:",
		"{}\n{}":                                       "d.json:2: must hold exactly one document",
		"{\"a\": 1}\n{\"a\": 2}":                       "d.json:2: must hold exactly one document",
		"":                                             "d.json:1: ",
		"[]":                                           "d.json:1: ",
		`{"limits": {"timeout": "x"}}`:                 "d.json:1: limits.timeout: \"x\" is not a duration",
		`{"action": "a", "params": {"x": {"type": "a"}}}`: "d.json:1: handler.kind: must be exec or http\nd.json:1: params.x.type: must be one of",
	} {
		_, err := parse("d.json", text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestAllFaultsOfAllFilesAreToldAtOnce(t *testing.T) {
	second := strings.Replace(good, "title: Deploy", "title: Really deploy", 1)
	dir := directory(t, map[string]string{
		"a.yaml": good, "b.yml": second, "c.yaml": "action: C\n", "d.json": "{", "e.yaml": strings.Repeat("# long\n", 10000),
	})
	_, err := actions.LoadDir(dir)
	if muster.KindOf(err) != muster.Invalid {
		t.Fatal(err)
	}
	for _, want := range []string{
		"b.yml:1: app.deploy is defined in " + filepath.Join(dir, "a.yaml"), "c.yaml:1: action: must be", "c.yaml:1: version: must be",
		"d.json:1: ", "e.yaml:1: is longer than 64 KiB",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	if _, err := actions.LoadDir(filepath.Join(t.TempDir(), "no")); muster.KindOf(err) != muster.Internal || strings.Contains(err.Error(), "actions:") {
		t.Fatal(err)
	}
}

func TestFileThatTakesTheNameOfABuiltinActionIsRefused(t *testing.T) {
	text := strings.Replace(good, "app.deploy", "index.add", 1)
	if _, err := actions.LoadDir(directory(t, map[string]string{"a.yaml": text})); err == nil || !strings.Contains(err.Error(), "a.yaml:1: index.add is built in") {
		t.Fatal(err)
	}
}

func TestExampleDefinitionsLoad(t *testing.T) {
	defs := examples(t)
	names := make([]string, 0, len(defs))
	for _, d := range defs {
		names = append(names, d.Action)
	}
	if !slices.Equal(names, []string{"app.greet", "dir.make", "dir.remove", "file.checksum", "host.disk"}) {
		t.Fatal(names)
	}
}

// examples loads copies of testdata, whatever the modes of the checkout are.
func examples(t *testing.T) []actions.Definition {
	t.Helper()
	files := map[string]string{}
	paths, err := filepath.Glob("../testdata/actions/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(text)
	}
	defs, err := actions.LoadDir(directory(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return defs
}

// FuzzParse holds that no file breaks the decoder, and that a good one is good
// as canonical JSON, too.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good), true)
	f.Add([]byte(`{"action": "a.b", "version": "1.0.0", "title": "T", "risk": "read", "handler": {"kind": "exec", "argv": ["/bin/true"]}}`), false)
	f.Add([]byte("action: a\nparams: {x: {type: list, max: 3}}\nlocks: [a, b]\n"), true)
	f.Fuzz(func(t *testing.T, raw []byte, yaml bool) {
		name := "f.json"
		if yaml {
			name = "f.yaml"
		}
		d, err := parse(name, string(raw))
		if err != nil {
			if muster.KindOf(err) != muster.Invalid || !strings.HasPrefix(err.Error(), name+":") {
				t.Fatalf("%v", err)
			}
			return
		}
		if info := d.Info(); !json.Valid(info.Params) || !json.Valid(info.Result) || bytes.Contains(info.Params, []byte("\n")) {
			t.Fatalf("%s %s", info.Params, info.Result)
		}
	})
}

func TestEveryFaultOfFormIsToldAtOnce(t *testing.T) {
	_, err := parse("d.yaml", "action: app.x\nversion: 1\ntitle: T\nriks: low\nidempotent: maybe\nlocks: [a, 1, b]\n"+
		"params:\n  a: {type: string, fallback: 3}\n  b: []\nhandler: {kind: exec, argv: /bin/true}\nlimits: {timeout: 5, concurrency: two}\n")
	want := []string{
		"d.yaml:2: version: must be a string", "d.yaml:4: riks: no such field", "d.yaml:5: idempotent: must be true or false", "d.yaml:6: locks.1: must be a string",
		"d.yaml:8: params.a.fallback: no such field", "d.yaml:9: params.b: must be an object", "d.yaml:10: handler.argv: must be a list",
		"d.yaml:11: limits.concurrency: must be a whole number", "d.yaml:11: limits.timeout: ",
	}
	for _, line := range want {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("no %q in\n%v", line, err)
		}
	}
	if _, err := parse("d.yaml", "- a\n- b\n"); err == nil || !strings.Contains(err.Error(), "d.yaml:1: must be an object") {
		t.Error(err)
	}
}

func TestAKeyGivenTwiceIsToldBesideTheOtherFaults(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"d.yaml": {"action: app.x\nversion: 1.0.0\naction: app.y\ntitle: T\nriks: low\nparams:\n  a: {type: string, max: 3, type: int}\n  a: {type: int}\nlimits: {timeout: 5}\n", []string{
			"3: action: is there twice, first in line 1", "5: riks: no such field", "7: params.a.type: is there twice, first in line 7",
			"8: params.a: is there twice, first in line 7", "9: limits.timeout: ",
		}},
		"e.yaml": {"action: app.x\nversion: '1'\ntitle: T\nrisk: low\n\"risk\": low\nhandler: {kind: go}\n", []string{
			"2: version: must be a version like", "5: risk: is there twice, first in line 4", "6: handler.kind: ",
		}},
		"d.json": {"{\"action\": \"app.x\",\n\"version\": \"1.0.0\",\n\"action\": {\"b\": [1]},\n\"riks\": 1,\n\"params\": {\"a\": {\"type\": \"string\",\n\"type\": \"int\"}}}", []string{
			"3: action: is there twice, first in line 1", "4: riks: no such field", "6: params.a.type: is there twice, first in line 5",
		}},
	} {
		_, err := parse(name, c.text)
		told := strings.Split(fmt.Sprint(err), "\n")
		for i, want := range c.want {
			if len(told) != len(c.want) || !strings.HasPrefix(told[i], name+":"+want) {
				t.Errorf("%s: no %q in\n%v", name, want, err)
			}
		}
	}
	if _, err := parse("d.yaml", good+"title: Another\n"); err == nil || err.Error() != "d.yaml:20: title: is there twice, first in line 3" {
		t.Errorf("in a file that is good but for that: %v", err)
	}
}
