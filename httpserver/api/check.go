package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"muster"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Checked is one request of a check: what was right about its answer, and what
// is to be mended.
type Checked struct {
	Request string   `json:"request"`
	Right   []string `json:"right"`
	Mend    []string `json:"mend"`
}

func (c *Checked) expect(ok bool, right, mend string, args ...any) {
	if ok {
		c.Right = append(c.Right, right)
	} else {
		c.Mend = append(c.Mend, fmt.Sprintf(mend, args...))
	}
}

const (
	checkTime     = 5 * time.Second
	noSuchAction  = "muster.no-such-action"
	pathNoSuch    = "/api/ai-engine/no-such-route"
	checkPatience = 3000 // milliseconds that a search is told it has
)

// walk is a check under way.
type walk struct {
	app  Application
	done []Checked
}

// Check walks an application through the node protocol with requests that
// change nothing, and returns each with what is right and what to mend. query is
// a word that its search should find something for.
func (a Application) Check(ctx context.Context, query string) []Checked {
	w := &walk{app: a}
	reached, can := w.health(ctx)
	if !reached {
		return w.done
	}
	if slices.Contains(can, muster.CapSearch) {
		w.search(ctx, query)
		w.closed(ctx, PathOwnSearch, muster.OwnQuery{Query: query, Limit: 1})
		w.garbage(ctx, PathOwnSearch)
	}
	if slices.Contains(can, muster.CapActions) {
		w.unknownAction(ctx)
		w.closed(ctx, PathOwnActions, map[string]string{"action": noSuchAction})
		w.garbage(ctx, PathOwnActions)
	}
	w.noRoute(ctx)
	return w.done
}

// ask makes one request and begins its report. ok is false without an answer.
func (w *walk) ask(ctx context.Context, what string, r Request, key string) (answer Response, c *Checked, ok bool) {
	w.done = append(w.done, Checked{Request: r.Method + " " + r.Path + what, Right: []string{}, Mend: []string{}})
	c = &w.done[len(w.done)-1]
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	authorization := ""
	if key != "" {
		authorization = "Bearer " + key
	}
	answer, err := w.app.client(key).exchange(ctx, strings.TrimRight(w.app.URL, "/"), r, authorization)
	switch {
	case muster.CodeOf(err) == codeRedirected:
		c.expect(false, "", "it answers %d and sends the caller elsewhere: redirects are not followed, register the URL it leads to", answer.Status)
	case err != nil:
		c.expect(false, "", "no answer: %v", err)
	}
	return answer, c, err == nil
}

func (w *walk) post(ctx context.Context, what, path string, in any, key string) (Response, *Checked, bool) {
	raw, ok := in.([]byte)
	if !ok {
		raw, _ = json.Marshal(in) // of plain words
	}
	return w.ask(ctx, what, Request{Method: http.MethodPost, Path: path, Body: raw}, key)
}

// object reads a JSON object, and complains about anything else.
func (c *Checked) object(answer Response) map[string]jsontext.Value {
	var fields map[string]jsontext.Value
	err := json.Unmarshal(answer.Body, &fields)
	c.expect(err == nil && fields != nil && utf8.Valid(answer.Body), "a JSON object", "the body must be a JSON object in UTF-8, it begins with %q", oneLine(string(answer.Body[:min(len(answer.Body), 60)])))
	media := answer.Header.Get("Content-Type")
	c.expect(strings.HasPrefix(media, "application/json"), "Content-Type is JSON", "Content-Type must be application/json, it is %q", media)
	return fields
}

// health checks the one route that every node must have. What it can do is what
// it says, or both capabilities if it does not say.
func (w *walk) health(ctx context.Context) (reached bool, can []muster.Capability) {
	can = []muster.Capability{muster.CapSearch, muster.CapActions}
	answer, c, ok := w.ask(ctx, " (no credential)", Request{Method: http.MethodGet, Path: PathHealth}, "")
	if !ok {
		return false, can
	}
	c.expect(answer.Status == http.StatusOK || answer.Status == http.StatusServiceUnavailable, "the route is there",
		"it must answer 200, or 503 while it is not ready; it answers %d. Nobody needs a credential for it", answer.Status)
	if answer.Status >= http.StatusBadRequest && answer.Status != http.StatusServiceUnavailable {
		return true, can
	}
	fields := c.object(answer)
	var ready bool
	said := fields["ready"] != nil
	readable := json.Unmarshal(fields["ready"], &ready) == nil
	c.expect(said && readable, "it says whether it is ready", `"ready" must be there, true or false`)
	c.expect(!readable || ready == (answer.Status == http.StatusOK), "its status goes with that", "it answers %d, but says ready: %v", answer.Status, ready)
	c.expect(ready || !readable, "it is ready", "it says that it is not ready: muster counts that as a failed ping")
	var version string
	c.expect(json.Unmarshal(fields["version"], &version) == nil && version != "", "it tells its version",
		`"version" should be a text, like "1.4.0": the registry keeps the registered one else`)
	var words []muster.Capability
	listed := json.Unmarshal(fields["capabilities"], &words) == nil
	c.expect(listed && len(validWords(words)) == len(words), "it tells its capabilities",
		`"capabilities" should be a list of different words of lower-case letters, digits and dashes, like ["search", "actions"]`)
	if listed && len(words) > 0 {
		can = words
	}
	return true, can
}

func (w *walk) search(ctx context.Context, query string) {
	raw, _ := json.Marshal(muster.OwnQuery{Query: query, Limit: 1}) // of plain words
	header := http.Header{}
	header.Set(HeaderTimeout, fmt.Sprint(checkPatience))
	began := time.Now()
	answer, c, ok := w.ask(ctx, fmt.Sprintf(" (query %q, limit 1)", query), Request{Method: http.MethodPost, Path: PathOwnSearch, Body: raw, Header: header}, w.app.Credential)
	if !ok {
		return
	}
	c.expect(time.Since(began) < checkPatience*time.Millisecond, "it answers in time", "it must answer within the milliseconds of the header %s", HeaderTimeout)
	c.expect(answer.Status == http.StatusOK, "it answers 200", "it must answer 200, it answers %d: %s", answer.Status, oneLine(string(answer.Body)))
	if answer.Status != http.StatusOK {
		return
	}
	fields := c.object(answer)
	var results []ownHit
	err := json.Unmarshal(fields["results"], &results)
	c.expect(err == nil && fields["results"].Kind() == '[', "there is a list of results", `"results" must be a list of objects with text in id, title and content; an empty one if nothing is found`)
	c.expect(len(results) <= 1, "it keeps to the limit", "it was asked for one result and gave %d", len(results))
	for i, own := range results {
		_, err := own.hit(i)
		c.expect(err == nil, "the result has an id, and a title or content", "%v", err)
	}
	if err == nil && len(results) == 0 {
		c.Right = append(c.Right, "nothing found: give --query WORD that it finds something for, to check results, too")
	}
	var total int
	c.expect(fields["total_results"] == nil || json.Unmarshal(fields["total_results"], &total) == nil && total >= len(results),
		"total_results is right or absent", `"total_results" must be a number, at least that of the results`)
}

// closed checks that nobody gets in without the credential.
func (w *walk) closed(ctx context.Context, path string, in any) {
	if w.app.Credential == "" {
		return
	}
	answer, c, ok := w.post(ctx, " (no credential)", path, in, "")
	if ok {
		c.expect(answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden, "it refuses strangers",
			"it must answer 401 to those without the credential, it answers %d: anybody can call it", answer.Status)
	}
}

// garbage checks that a broken request is the caller's fault.
func (w *walk) garbage(ctx context.Context, path string) {
	answer, c, ok := w.post(ctx, " (broken JSON)", path, []byte(`{"broken`), w.app.Credential)
	if ok {
		c.expect(answer.Status >= http.StatusBadRequest && answer.Status < http.StatusInternalServerError, "it refuses what it cannot read",
			"it must answer 400, it answers %d: five answers from 500 up open its circuit breaker", answer.Status)
	}
}

func (w *walk) unknownAction(ctx context.Context) {
	answer, c, ok := w.post(ctx, " (an action that is not there)", PathOwnActions, map[string]string{"action": noSuchAction}, w.app.Credential)
	if !ok {
		return
	}
	c.expect(answer.Status == http.StatusBadRequest, "it answers 400", "it must answer 400 to an action it does not have, it answers %d: %s",
		answer.Status, oneLine(string(answer.Body)))
	fields := c.object(answer)
	var message, code string
	c.expect(json.Unmarshal(fields["message"], &message) == nil && message != "" && json.Unmarshal(fields["code"], &code) == nil && code != "",
		"the error says why", `an error must have a "message" for people and a "code" for programs, like "unknown_action"`)
	c.expect(!w.echoes(answer), "it keeps its credential to itself", "the answer repeats the credential")
}

func (w *walk) echoes(answer Response) bool {
	return w.app.Credential != "" && bytes.Contains(answer.Body, []byte(w.app.Credential))
}

func (w *walk) noRoute(ctx context.Context) {
	answer, c, ok := w.ask(ctx, "", Request{Method: http.MethodGet, Path: pathNoSuch}, w.app.Credential)
	if ok {
		c.expect(answer.Status == http.StatusNotFound || answer.Status == http.StatusMethodNotAllowed || answer.Status == http.StatusUnauthorized,
			"it answers 404", "it must answer 404 to a route it does not have, it answers %d", answer.Status)
	}
}
