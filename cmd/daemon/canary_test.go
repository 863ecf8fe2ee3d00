package daemon_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"
)

const secretAction = `action: app.login
version: 1.0.0
title: Log in
risk: low
params:
  pin: {type: string, secret: true, required: true}
  user: {type: string}
handler: {kind: exec, argv: [/bin/cat], stdin: params}
`

func TestASecretIsNowhereInWhatANodeKeepsOrTells(t *testing.T) {
	const canary = "c4n4ry0123456789"
	cfg := settings(t)
	cfg.Actions = t.TempDir()
	if err := os.WriteFile(filepath.Join(cfg.Actions, "login.yaml"), meant(secretAction), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, d)
	secrets, err := trust.LoadSecrets(trust.DefaultSecretPath(os.Getenv))
	if err != nil {
		t.Fatal(err)
	}
	op := &api.Client{Addrs: []string{d.Addr()}, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	op.Sign = func(r api.Request, to string) (string, error) {
		return secrets[0].SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: to})
	}
	for _, action := range []string{"app.login", "app.unknown"} {
		run := muster.Run{Action: action, On: muster.Selector{All: true}, Params: muster.Params{
			"pin": json.RawMessage(`"` + canary + `"`), "user": json.RawMessage(`"jane"`),
		}}
		if _, err := op.Run(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	registered, err := op.Register(t.Context(), muster.Registration{Name: "app", URL: "http://127.0.0.1:9"}, "")
	if err != nil {
		t.Fatal(err)
	}
	keySecret := (*registered.APIKey)[strings.LastIndex(*registered.APIKey, "_")+1:]
	got := rows(t, op, api.RequestFilter{Type: "action"}, 2)
	if !strings.Contains(string(got[1].Payload), `"user":"jane"`) || !strings.Contains(string(got[1].Payload), "app.login") {
		t.Errorf("what is no secret is kept: %s", got[1].Payload)
	}
	rows(t, op, api.RequestFilter{Type: "sync"}, 1)
	answer, err := op.Send(t.Context(), api.Request{Method: "GET", Path: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	search := func(where string, raw []byte) {
		for _, secret := range []string{canary, keySecret} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds %s", where, secret)
			}
		}
	}
	search("/metrics", answer.Body)
	err = filepath.WalkDir(cfg.DataDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		search(path, raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
