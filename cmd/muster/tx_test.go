package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// ledgerAction writes a word to a file, waits, and fails if there is a file of
// the word's name. undoAction does so, too, and is tried twice only.
// triedAction has a dry run, which fails if there is such a file.
const (
	ledgerAction = `action: app.led
version: 1.0.0
title: Write a word
risk: low
params: {w: {type: string, required: true}, s: {type: string, default: "0"}}
result: {was: {type: string}}
handler: {kind: exec, argv: [/bin/sh, -c, 'echo "$1" >>LEDGER; sleep "$2"; test ! -e LEDGER."$1" && echo "{\"was\":\"$1\"}" >$MUSTER_RESULT', x, "${w}", "${s}"]}
`
	undoAction = `action: app.unled
version: 1.0.0
title: Write a word to undo another
risk: low
params: {w: {type: string, required: true}}
handler: {kind: exec, argv: [/bin/sh, -c, 'echo "$1" >>LEDGER; test ! -e LEDGER."$1"', x, "${w}"]}
retry: {attempts: 2, first: 100ms}
`
	triedAction = `action: app.tried
version: 1.0.0
title: Write a word that can be tried
risk: low
params: {w: {type: string, required: true}}
handler: {kind: exec, argv: [/bin/sh, -c, 'echo "$1" >>LEDGER', x, "${w}"]}
check: {kind: exec, argv: [/bin/sh, -c, 'test ! -e LEDGER."$1" || { echo no room >&2; exit 1; }', x, "${w}"]}
`
	lookAction = `action: app.look
version: 1.0.0
title: Look
risk: read
handler: {kind: exec, argv: [/bin/sh, -c, 'echo looked >>LEDGER; test ! -e LEDGER.look']}
`
)

// ledger is what actions on all nodes of a cluster wrote.
type ledger struct{ path string }

func (l ledger) read() string {
	raw, _ := os.ReadFile(l.path)
	return strings.Join(strings.Fields(string(raw)), " ")
}

// breaks has the action that writes a word fail.
func (l ledger) breaks(t *testing.T, word string) {
	t.Helper()
	if err := os.WriteFile(l.path+"."+word, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l ledger) mends(t *testing.T, word string) {
	t.Helper()
	if err := os.Remove(l.path + "." + word); err != nil {
		t.Fatal(err)
	}
}

// ledger gives all agents actions that write into one file.
func (d *demo) ledger(t *testing.T) ledger {
	t.Helper()
	l := ledger{filepath.Join(t.TempDir(), "ledger")}
	for i, text := range []string{ledgerAction, undoAction, triedAction, lookAction} {
		text = string(meant([]byte(strings.ReplaceAll(text, "LEDGER", l.path))))
		if err := os.WriteFile(filepath.Join(d.dir, "actions", fmt.Sprintf("ledger%d.yaml", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range d.names {
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the actions are there", func() bool {
		code, out := d.words(t, d.names[0], "action", "show", "app.look")
		return code == 0 && strings.Contains(out, strings.Join(d.names, ", "))
	})
	return l
}

// step is a step that writes its ID, and un-ID to undo it.
func step(id, node string, more ...string) string {
	return fmt.Sprintf(`{"id":%q,"on":%q,"run":"app.led","with":{"w":%q%s},"undo":{"run":"app.unled","with":{"w":"un-${result.was}"}}}`,
		id, node, id, strings.Join(more, ""))
}

const slowly = `,"s":"2"`

func plan(steps ...string) json.RawMessage {
	return json.RawMessage(`{"steps":[` + strings.Join(steps, ",") + `]}`)
}

func (d *demo) begin(t *testing.T, at string, plan json.RawMessage) muster.TxAnswer {
	t.Helper()
	a, err := d.client(at).BeginTx(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ended waits until a transaction needs no driver any more, as a node has it.
func (d *demo) ended(t *testing.T, at, id string) (a muster.TxAnswer) {
	t.Helper()
	until(t, "the transaction has come to an end", func() bool {
		var err error
		a, err = d.client(at).Tx(t.Context(), id, 0)
		return err == nil && !a.Status.Driven()
	})
	return a
}

func statuses(a muster.TxAnswer) string {
	out := make([]string, len(a.Steps))
	for i, s := range a.Steps {
		out[i] = s.ID + ":" + string(s.Status)
	}
	return strings.Join(out, " ")
}

func TestATransactionIsDoneOnThreeNodesOrUndoneInReverse(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	asker := other(d, master)
	a := d.begin(t, asker, plan(step("one", "a"), step("two", "b"), step("three", "c")))
	if a.Status != muster.TxSucceeded || l.read() != "one two three" || string(a.Steps[1].Result) != `{"was":"two"}` {
		t.Fatalf("%+v, wrote %s", a, l.read())
	}
	told, err := d.client(master).Send(t.Context(), api.Request{Method: http.MethodGet, Path: "/v1/tx/" + a.ID + "/events"})
	if err != nil || strings.Count(string(told.Body), "event: ") != 8 || !strings.HasPrefix(string(told.Body), "id: 1\nevent: begin\n") || !strings.Contains(string(told.Body), "id: 8\nevent: succeeded\n") {
		t.Errorf("events %s, %v", told.Body, err)
	}
	for _, at := range d.names {
		if same := d.ended(t, at, a.ID); same.Status != muster.TxSucceeded {
			t.Errorf("%s has it %s", at, same.Status)
		}
	}
	l.breaks(t, "six")
	a = d.begin(t, asker, plan(step("four", "a"), step("five", "b"), step("six", "c")))
	if a.Status != muster.TxRolledBack || l.read() != "one two three four five six un-five un-four" || !reflect.DeepEqual(a.RolledBack, []string{"four", "five"}) {
		t.Errorf("%+v, wrote %s", a, l.read())
	}
	if statuses(a) != "four:undone five:undone six:failed" || a.Steps[2].Error == nil || a.Steps[2].Error.Code != "exit" {
		t.Errorf("%s", statuses(a))
	}
	file := filepath.Join(t.TempDir(), "plan.yaml")
	text := "name: again\nsteps:\n- {id: seven, on: a, run: app.led, with: {w: seven}, undo: {run: app.unled, with: {w: un-seven}}}\n- {id: six, on: b, run: app.led, with: {w: six}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := d.words(t, asker, "tx", "plan", file); code != 0 || !strings.Contains(out, "Never undone          six") || !strings.Contains(out, "Undone in this order  seven") {
		t.Errorf("exit %d\n%s", code, out)
	}
	code, out := d.words(t, asker, "tx", "apply", file)
	if code != 6 || !strings.Contains(out, "rolled back: step six failed") || !strings.Contains(out, "seven  a     app.led  undone") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asker, "tx", "list"); code != 0 || strings.Count(out, "rolled_back") != 2 || !strings.Contains(out, "succeeded") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestATransactionIsFoundAtEveryNodeAtOnceAndNeverDeniedWithoutAMaster(t *testing.T) {
	d, master := trio(t)
	asker := other(d, master)
	third := other(d, asker)
	last := ""
	for range 10 {
		a := d.begin(t, asker, json.RawMessage(`{"wait":false,"steps":[{"id":"one","on":"a","run":"node.ping"}]}`))
		if found, err := d.client(third).Tx(t.Context(), a.ID, 0); err != nil || found.ID != a.ID {
			t.Fatalf("begun at %s, asked for at %s: %+v, %v", asker, third, found, err)
		}
		last = a.ID
	}
	if _, err := d.client(third).Tx(t.Context(), "none", 0); muster.KindOf(err) != muster.NotFound {
		t.Errorf("one that there is not: %v", err)
	}
	for _, name := range []string{master, asker} {
		if err := d.kill(name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, third+" sees no master", func() bool {
		s, err := d.client(third).Cluster(t.Context())
		return err == nil && s.Master == nil
	})
	if _, err := d.client(third).Tx(t.Context(), "none", 0); muster.KindOf(err) != muster.NoMaster {
		t.Errorf("without a master: %v", err)
	}
	if code, out := d.words(t, third, "tx", "show", "none"); code != 4 || !strings.Contains(out, "no transaction") || !strings.Contains(out, "hint:") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if found, err := d.client(third).Tx(t.Context(), last, 0); err != nil || found.ID != last {
		t.Errorf("one that it has: %+v, %v", found, err)
	}
}

func TestTheOlderFormIsDoneInTheOrderItIsWrittenIn(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	action := func(slug, word string) string {
		return fmt.Sprintf(`%q:{"action":"app.led","params":{"w":%q},"rollback":{"action":"app.unled","params":{"w":"un-%s"}}}`, slug, word, word)
	}
	old := func(parts ...string) json.RawMessage {
		return json.RawMessage(`{"actions":{` + strings.Join(parts, ",") + `}}`)
	}
	a := d.begin(t, master, old(action("c", "one"), action("a", "two"), action("b", "three")))
	if a.Status != muster.TxSucceeded || l.read() != "one two three" {
		t.Errorf("%s, wrote %s", a.Status, l.read())
	}
	l.breaks(t, "six")
	a = d.begin(t, master, old(action("c", "four"), action("a", "five"), action("b", "six")))
	if a.Status != muster.TxRolledBack || l.read() != "one two three four five six un-five un-four" {
		t.Errorf("%s, wrote %s", a.Status, l.read())
	}
}

func TestTheMasterIsKilledAndTheNextOneBringsTheTransactionToItsEnd(t *testing.T) {
	for _, failing := range []bool{false, true} {
		d, master := trio(t)
		l := d.ledger(t)
		asker := other(d, master)
		third := other(d, asker)
		if failing {
			l.breaks(t, "three")
		}
		a := d.begin(t, asker, json.RawMessage(fmt.Sprintf(`{"wait":false,"steps":[%s,%s,%s]}`, step("one", third), step("two", asker, slowly), step("three", third))))
		until(t, "the second step runs", func() bool { return l.read() == "one two" })
		if err := d.kill(master); err != nil {
			t.Fatal(err)
		}
		a = d.ended(t, asker, a.ID)
		status, wrote := muster.TxSucceeded, "one two three"
		if failing {
			status, wrote = muster.TxRolledBack, "one two three un-two un-one"
		}
		if a.Status != status || l.read() != wrote {
			t.Errorf("%s (%s), wrote %s", a.Status, statuses(a), l.read())
		}
		claimed := slices.ContainsFunc(a.History, func(n muster.TxNote) bool { return n.Event == "claim" })
		if next, err := d.client(asker).Cluster(t.Context()); err != nil || next.Master == nil || a.Driver != next.Master.ID || !claimed {
			t.Errorf("driven by %s: %+v, %v", a.Driver, next.Master, err)
		}
		if err := d.clean(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANodeKilledInMidStepIsUndoneWhenItIsBack(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	asker := other(d, master)
	third := other(d, asker)
	a := d.begin(t, asker, json.RawMessage(fmt.Sprintf(`{"wait":false,"steps":[%s,{"id":"two","on":%q,"run":"app.led","with":{"w":"two","s":"30"},"undo":{"run":"app.unled","with":{"w":"un-two"}}}]}`,
		step("one", asker), third)))
	until(t, "the second step runs", func() bool { return l.read() == "one two" })
	if err := d.kill(third); err != nil {
		t.Fatal(err)
	}
	if err := d.start(third); err != nil {
		t.Fatal(err)
	}
	if a = d.ended(t, asker, a.ID); a.Status != muster.TxRolledBack || l.read() != "one two un-two un-one" {
		t.Errorf("%s (%s), wrote %s", a.Status, statuses(a), l.read())
	}
}

// losesWhatItDid has a node forget the step it did of a transaction that is
// undone: nobody asks it to undo that, and an operator is told why.
func losesWhatItDid(t *testing.T, why string, forget func(dir string) error) {
	t.Helper()
	d, master := trio(t)
	l := d.ledger(t)
	asker := other(d, master)
	third := other(d, asker)
	l.breaks(t, "two")
	a := d.begin(t, asker, json.RawMessage(fmt.Sprintf(`{"wait":false,"steps":[%s,%s]}`, step("one", third), step("two", asker, slowly))))
	until(t, "the second step runs", func() bool { return l.read() == "one two" })
	if err := d.kill(third); err != nil {
		t.Fatal(err)
	}
	if err := forget(filepath.Join(d.dir, third)); err != nil {
		t.Fatal(err)
	}
	if err := d.start(third); err != nil {
		t.Fatal(err)
	}
	a = d.ended(t, asker, a.ID)
	if a.Status != muster.TxParked || l.read() != "one two" || len(a.Sheet) != 1 || a.Sheet[0].Why.Code != why {
		t.Errorf("%s (%s), wrote %s, %+v", a.Status, statuses(a), l.read(), a.Sheet)
	}
}

func TestANodeThatLostItsJournalIsNotAskedToUndoWhatItDoesNotKnow(t *testing.T) {
	losesWhatItDid(t, muster.CodeJournalLost, func(dir string) error { return os.Remove(filepath.Join(dir, "journal.db")) })
}

func TestAMachineThatLostItsDiskLeavesWhatItDidToAnOperator(t *testing.T) {
	losesWhatItDid(t, "node_gone", os.RemoveAll)
}

func TestAParkedTransactionHandsOverASheetAndGoesOnAtAWord(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	asker := other(d, master)
	l.breaks(t, "two")
	l.breaks(t, "un-one")
	parked := func() muster.TxAnswer {
		return d.begin(t, asker, json.RawMessage(fmt.Sprintf(`{"locks":["x"],"steps":[%s,%s]}`, step("one", "a"), step("two", "b"))))
	}
	a := parked()
	if a.Status != muster.TxParked || statuses(a) != "one:undo_failed two:failed" || l.read() != "one two un-one un-one" {
		t.Fatalf("%s (%s), wrote %s", a.Status, statuses(a), l.read())
	}
	code, out := d.words(t, asker, "tx", "show", a.ID)
	if code != 7 || !strings.Contains(out, "TO DO BY HAND") || !strings.Contains(out, "muster run app.unled --on a -p 'w=un-one'") || !strings.Contains(out, "hint:") {
		t.Errorf("exit %d\n%s", code, out)
	}
	_, err := d.client(asker).BeginTx(t.Context(), json.RawMessage(fmt.Sprintf(`{"locks":["x"],"steps":[%s]}`, step("one", "a"))))
	if muster.CodeOf(err) != "locked" || muster.KindOf(err) != muster.Conflict || !strings.Contains(err.Error(), a.ID) {
		t.Errorf("a second one got the lock: %v", err)
	}
	l.mends(t, "un-one")
	if code, out := d.words(t, asker, "tx", "retry", a.ID, "--reason", "mended"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	if a = d.ended(t, asker, a.ID); a.Status != muster.TxRolledBack || l.read() != "one two un-one un-one un-one" {
		t.Errorf("%s, wrote %s", a.Status, l.read())
	}
	if !slices.ContainsFunc(a.History, func(n muster.TxNote) bool { return n.Event == "retry" && n.By == "operator" && n.Message == "mended" }) {
		t.Errorf("%+v", a.History)
	}
	l.breaks(t, "un-one")
	a = parked()
	if code, out := d.words(t, asker, "tx", "skip", a.ID, "one", "--reason", "by hand"); code != 0 || !strings.Contains(out, "rolled_back") {
		t.Errorf("exit %d\n%s", code, out)
	}
	a = parked()
	if code, out := d.words(t, asker, "tx", "close", a.ID, "--reason", "no use"); code != 0 || !strings.Contains(out, "closed") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asker, "tx", "show", a.ID); code != 7 || !strings.Contains(out, "closed") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// The plan is as it was begun; how a step is done and undone is what the definition
// says when its node is asked, and so are the parameters that it takes.
func TestAMendedUndoIsWhatARetryOfAParkedTransactionRuns(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	asker := other(d, master)
	undoes := func(version, values, exit string) {
		t.Helper()
		d.defines(t, "ledger1.yaml", fmt.Sprintf("action: app.unled\nversion: %s\ntitle: Undo\nrisk: low\nparams: {w: {type: enum, values: [%s], required: true}}\n"+
			"retry: {attempts: 1}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'echo \"%s $1\" >>%s; exit %s', x, \"${w}\"]}\n", version, values, version, l.path, exit), "a")
		until(t, "the definition is "+version+" at its node", func() bool {
			code, out := d.words(t, asker, "action", "show", "app.unled", "-o", "json")
			return code == 0 && strings.Contains(out, version)
		})
	}
	parked := func(a muster.TxAnswer, why string) {
		t.Helper()
		if a.Status != muster.TxParked || len(a.Sheet) != 1 || a.Sheet[0].Why.Code != why {
			t.Fatalf("%s, %+v", a.Status, a.Sheet)
		}
	}
	undoes("2.0.0", "un-one", "3")
	l.breaks(t, "two")
	a := d.begin(t, asker, plan(step("one", "a"), step("two", "b")))
	parked(a, "exit")
	for _, c := range []struct{ version, values, exit, why string }{{"3.0.0", "other", "0", "invalid_params"}, {"4.0.0", "un-one, other", "0", ""}} {
		undoes(c.version, c.values, c.exit)
		if code, out := d.words(t, asker, "tx", "retry", a.ID); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
		if a = d.ended(t, asker, a.ID); c.why != "" {
			parked(a, c.why)
		}
	}
	if a.Status != muster.TxRolledBack || l.read() != "one two 2.0.0 un-one 4.0.0 un-one" {
		t.Errorf("%s (%s), wrote %s", a.Status, statuses(a), l.read())
	}
}

func TestATransactionIsWatchedToItsEndHoweverLongThatTakes(t *testing.T) {
	d, master := trio(t)
	asker := other(d, master)
	a, err := d.client(asker).BeginTx(t.Context(), json.RawMessage(`{"wait":false,"steps":[{"id":"one","on":"a","run":"node.sleep","with":{"for":"1500ms"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if code, out := d.words(t, asker, "tx", "watch", a.ID, "--timeout", "500ms"); code != 0 || !strings.Contains(out, "succeeded") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestTheSameKeyBeginsOneTransaction(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	keyed := json.RawMessage(`{"key":"release 7","steps":[` + step("one", "a") + `]}`)
	first := d.begin(t, other(d, master), keyed)
	again := d.begin(t, master, keyed)
	if first.ID != again.ID || l.read() != "one" {
		t.Errorf("%s and %s, wrote %s", first.ID, again.ID, l.read())
	}
	_, err := d.client(master).BeginTx(t.Context(), json.RawMessage(`{"key":"release 7","steps":[`+step("two", "a")+`]}`))
	if muster.KindOf(err) != muster.Conflict {
		t.Errorf("another body: %v", err)
	}
}

func TestPrechecksResultsAndSeveralNodes(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	rich := json.RawMessage(`{"steps":[
		{"id":"one","on":"a","run":"app.led","with":{"w":"one"},"precheck":{"run":"app.look"}},
		{"id":"all","on":{"capability":"actions"},"run":"app.led","with":{"w":"each-${steps.one.result.was}"},"undo":{"run":"app.unled","with":{"w":"un-each"}}},
		{"id":"last","on":"b","run":"app.led","with":{"w":"last"},"needs":["all"]}]}`)
	a := d.begin(t, master, rich)
	if a.Status != muster.TxSucceeded || l.read() != "looked one each-one each-one each-one last" || statuses(a) != "one:done all@a:done all@b:done all@c:done last:done" {
		t.Errorf("%s (%s), wrote %s, %+v", a.Status, statuses(a), l.read(), a.Error)
	}
	l.breaks(t, "last")
	a = d.begin(t, master, rich)
	if want := "one:done all@a:undone all@b:undone all@c:undone last:failed"; a.Status != muster.TxRolledBack || statuses(a) != want || !reflect.DeepEqual(a.NotCompensated, []string{"one"}) {
		t.Errorf("%s (%s), not undone %v", a.Status, statuses(a), a.NotCompensated)
	}
	l.breaks(t, "look")
	before := l.read()
	if a = d.begin(t, master, rich); a.Status != muster.TxRolledBack || l.read() != before+" looked" || a.Error.Code != "precheck" {
		t.Errorf("%s, wrote %s, %+v", a.Status, l.read(), a.Error)
	}
}

func TestATransactionNeedsTheScopesOfItsSteps(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	key := func(scopes ...string) *api.Client {
		made, err := d.client(master).CreateKey(t.Context(), muster.KeySpec{Name: strings.Join(scopes, " "), Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		return &api.Client{Addrs: d.client(master).Addrs, Key: *made.Plain}
	}
	p := plan(step("one", "a"))
	for _, c := range []struct {
		by   *api.Client
		kind muster.Kind
	}{
		{key("run:*"), muster.Forbidden}, {key("tx", "run:app.led"), muster.Forbidden}, {key("tx"), muster.Forbidden}, {key("tx", "run:app.*"), ""},
	} {
		_, err := c.by.BeginTx(t.Context(), p)
		if (err == nil) != (c.kind == "") || err != nil && muster.KindOf(err) != c.kind {
			t.Errorf("%v", err)
		}
	}
	if l.read() != "one" {
		t.Errorf("wrote %s", l.read())
	}
	var any json.RawMessage
	if err := key("read").Do(t.Context(), http.MethodGet, "/v1/tx", nil, &any); muster.KindOf(err) != muster.Forbidden {
		t.Errorf("a list without the scope tx: %v", err)
	}
}

func TestTwoStepsOnOneNodeAreDoneAndUndoneInTheirOrder(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	if a := d.begin(t, other(d, master), plan(step("one", "a"), step("two", "a"), step("three", "a"))); a.Status != muster.TxSucceeded || l.read() != "one two three" {
		t.Errorf("%s, wrote %s", a.Status, l.read())
	}
	l.breaks(t, "six")
	a := d.begin(t, other(d, master), plan(step("four", "a"), step("five", "a"), step("six", "a")))
	if a.Status != muster.TxRolledBack || l.read() != "one two three four five six un-five un-four" {
		t.Errorf("%s, wrote %s", a.Status, l.read())
	}
}

func TestAPlanIsJudgedAndRehearsedBeforeAnythingIsDone(t *testing.T) {
	d, master := trio(t)
	l := d.ledger(t)
	at := other(d, master)
	file := filepath.Join(t.TempDir(), "plan.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.breaks(t, "two")
	for text, want := range map[string]string{
		"steps:\n- {id: one, on: a\n- x": "[3:1] ',' or '}' must be specified",
		"":                               "is no plan",
		"steps:\n- {id: one, on: a, run: node.ping, id: two}":                                                              `mapping key "id" already defined`,
		"steps:\n- {id: one, on: a, run: node.ping, arguments: {a: 1}}":                                                    "error: steps[0].arguments: no such field\n",
		"steps:\n- {id: one, on: nowhere, run: node.ping}":                                                                 `steps[0].on: no node "nowhere"`,
		"steps:\n- {id: one, on: a, run: node.pong}":                                                                       "steps[0].run: a has no action node.pong",
		"steps:\n- {id: one, on: a, run: node.ping, needs: [two]}\n- {id: two, on: a, run: node.ping}":                     "one needs two needs one",
		"steps:\n- {id: one, on: a, run: app.led}\n- {id: two, on: b, run: app.led, with: {w: 7}, undo: {run: app.unled}}": "error: steps[0].with.w: must be given; steps[1].undo.with.w: must be given; steps[1].with.w: must be a string\n",
		"steps:\n- {id: one, on: a, run: app.led, with: {w: one, x: 1}}":                                                   "steps[0].with.x: app.led has no such parameter",
	} {
		for _, word := range []string{"plan", "apply"} {
			write(text)
			code, out := d.words(t, at, "tx", word, file)
			if code == 0 || !strings.Contains(out, want) || strings.Count(out, "must be given") > 2 {
				t.Errorf("%s of %q: exit %d, %s", word, text, code, out)
			}
		}
	}
	write("steps:\n- {id: try, on: a, run: app.tried, with: {w: try}}\n- {id: one, on: a, run: app.led, with: {w: one}}\n- {id: look, on: b, run: app.look}\n- {id: two, on: b, run: app.tried, with: {w: two}}\n- {id: last, on: c, run: app.tried, with: {w: '${steps.one.result.was}'}}\n")
	code, out := d.words(t, at, "tx", "plan", file)
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"try a app.tried - - ok one", "one a app.led - try - look", "look b app.look - one - two", "two b app.tried - look it ended with exit code 1: no room last", "last c app.tried - two - ",
		"error: the dry run of step two failed: it ended with exit code 1: no room",
	} {
		if code != 1 || !strings.Contains(words, want) {
			t.Errorf("exit %d, without %q: %s", code, want, out)
		}
	}
	l.mends(t, "two")
	if code, out := d.words(t, at, "tx", "plan", file); code != 0 {
		t.Errorf("exit %d, %s", code, out)
	}
	if l.read() != "" {
		t.Errorf("wrote %s", l.read())
	}
}
