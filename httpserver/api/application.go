package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Paths of the node protocol that applications serve, below their base URL.
const (
	PathOwnSearch  = "/api/ai-engine/search"
	PathOwnActions = "/api/ai-engine/actions"
)

const (
	codeBadAddress = "bad_address"      // the guard refused it
	codeBadAnswer  = "bad_answer"       // an answer, but not what the protocol asks for
	codeTooLarge   = "answer_too_large" // an answer that goes on and on
	codeRedirected = "redirected"
	codeRunning    = "still_running" // the application took the work and goes on

	maxOwnAnswer    = 4 << 20
	maxOwnID        = 512
	maxVersion      = 64
	maxCapabilities = 32
)

// Application speaks the node protocol to an application that is a node. Its
// credential goes to that application only, and no redirect is followed.
type Application struct {
	URL        string // base URL
	ID         string // of the node that it is; empty: none yet
	Caller     string // who asks, for the record
	Credential string // sent as bearer; empty: none is
	HTTP       *http.Client
	Record     func(Call)
}

func (a Application) client(key string) *Client {
	base := strings.TrimRight(a.URL, "/")
	return &Client{
		Addrs: []string{base}, Key: key, HTTP: a.HTTP, Record: a.Record, Caller: a.Caller, IDs: map[string]string{base: a.ID}, Most: maxOwnAnswer,
	}
}

// Health asks the application how it is. An error says that it does not answer,
// is not ready, or answers something else. Nobody needs a credential for that.
func (a Application) Health(ctx context.Context) (v muster.Vital, err error) {
	answer, err := a.client("").Send(ctx, Request{Method: http.MethodGet, Path: PathHealth})
	if err != nil {
		return v, err
	}
	var said struct {
		Status       string         `json:"status"`
		Ready        *bool          `json:"ready"`
		Version      jsontext.Value `json:"version"`
		Capabilities jsontext.Value `json:"capabilities"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil {
		return v, badAnswer("health", err)
	}
	if said.Ready != nil && !*said.Ready || said.Ready == nil && said.Status == "unhealthy" {
		return v, muster.Errorf(muster.Unavailable, "it says that it is not ready").WithCode("not_ready")
	}
	var version string
	if json.Unmarshal(said.Version, &version) == nil && version != "" && len(version) <= maxVersion && !strings.ContainsFunc(version, unicode.IsControl) {
		v.Version = version
	}
	var words []muster.Capability
	if json.Unmarshal(said.Capabilities, &words) == nil {
		v.Capabilities = validWords(words)
	}
	return v, nil
}

// validWords are the capabilities among words, each once.
func validWords(words []muster.Capability) (out []muster.Capability) {
	seen := map[muster.Capability]bool{}
	for _, word := range words {
		if word.Valid() && !seen[word] && len(out) < maxCapabilities {
			seen[word] = true
			out = append(out, word)
		}
	}
	return out
}

// badAnswer is the error of an answer that cannot be used. What was asked for
// may have been done.
func badAnswer(what string, err error) error {
	return muster.Errorf(muster.OutcomeUnknown, "the answer to %s is not what the node protocol asks for: %s", what, oneLine(err.Error())).
		WithCode(codeBadAnswer).WithHint("muster node check URL says what to mend")
}

// ownHit is a result in an application's words. Its ID may be a number.
type ownHit struct {
	ID         jsontext.Value  `json:"id"`
	Title      string          `json:"title"`
	Content    string          `json:"content"`
	URL        string          `json:"url"`
	Collection string          `json:"collection"`
	Truncated  bool            `json:"truncated"`
	Metadata   muster.Metadata `json:"metadata"`
}

func (h ownHit) hit(place int) (muster.Hit, error) {
	var id string
	if json.Unmarshal(h.ID, &id) != nil && h.ID.Kind() == '0' {
		id = string(bytes.TrimSpace(h.ID))
	}
	switch {
	case id == "" || len(id) > maxOwnID:
		return muster.Hit{}, fmt.Errorf("results[%d].id must have 1 to %d bytes", place, maxOwnID)
	case strings.TrimSpace(h.Title) == "" && strings.TrimSpace(h.Content) == "":
		return muster.Hit{}, fmt.Errorf("results[%d] has neither title nor content", place)
	}
	if h.Collection == "" {
		h.Collection = muster.DefaultCollection
	}
	if h.Metadata == nil {
		h.Metadata = muster.Metadata{}
	}
	return muster.Hit{
		ID: id, Title: h.Title, Content: h.Content, URL: h.URL, Collection: h.Collection, Truncated: h.Truncated, Metadata: h.Metadata,
	}, nil
}

// Search asks the application's own search. More results than were asked for
// are left out.
func (a Application) Search(ctx context.Context, q muster.OwnQuery) (hits muster.OwnHits, err error) {
	answer, err := a.post(ctx, PathOwnSearch, q, "")
	if err != nil {
		return hits, err
	}
	var said struct {
		Results   *[]ownHit `json:"results"`
		Total     *int      `json:"total_results"`
		Documents *uint64   `json:"documents"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil {
		return hits, badAnswer("search", err)
	}
	if said.Results == nil {
		return hits, badAnswer("search", fmt.Errorf("there is no list results"))
	}
	for i, own := range (*said.Results)[:min(len(*said.Results), q.Limit)] {
		hit, err := own.hit(i)
		if err != nil {
			return muster.OwnHits{}, badAnswer("search", err)
		}
		hits.Hits = append(hits.Hits, hit)
	}
	hits.Matched, hits.Documents = len(hits.Hits), said.Documents
	if said.Total != nil {
		hits.Matched = max(hits.Matched, *said.Total)
	}
	return hits, nil
}

// Execute has the application run an action. Its job is the idempotency key.
func (a Application) Execute(ctx context.Context, x muster.Execution) (r muster.Result, err error) {
	ask := struct {
		Action string        `json:"action"`
		Params muster.Params `json:"params,omitempty"`
		Check  bool          `json:"check,omitzero"`
	}{x.Action, x.Params, x.Check}
	answer, err := a.post(ctx, PathOwnActions, ask, x.Job)
	if err != nil {
		return r, err
	}
	if answer.Status == http.StatusAccepted {
		return r, muster.Errorf(muster.OutcomeUnknown, "the application took the action and goes on with it").WithCode(codeRunning)
	}
	var said struct {
		Success *bool               `json:"success"`
		State   muster.State        `json:"state"`
		Result  jsontext.Value      `json:"result"`
		Error   *muster.ActionError `json:"error"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil {
		return r, badAnswer("actions", err)
	}
	if said.Success == nil {
		return r, badAnswer("actions", fmt.Errorf("success is missing"))
	}
	r = muster.Result{Success: *said.Success, State: stateOf(*said.Success, said.State), Error: said.Error, Result: []byte(said.Result)}
	if !r.Success && r.Error == nil {
		r.Error = &muster.ActionError{Code: "failed", Message: "the application gives no reason"}
	}
	return r, nil
}

// stateOf is an application's own state where it goes with its success.
func stateOf(success bool, own muster.State) muster.State {
	switch good := own == muster.StateOK || own == muster.StateNoop; {
	case success && good:
		return own
	case success:
		return muster.StateOK
	case own == "" || good:
		return muster.StateFailed
	default:
		return own
	}
}

// post sends a question as JSON. An application's own word that its circuit is
// open is none: breakers are ours.
func (a Application) post(ctx context.Context, path string, in any, key string) (Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return Response{}, muster.Errorf(muster.Internal, "encode request: %w", err)
	}
	header := http.Header{}
	if key != "" {
		header.Set(HeaderIdempotency, key)
	}
	answer, err := a.client(a.Credential).Send(ctx, Request{Method: http.MethodPost, Path: path, Body: body, Header: header})
	if muster.CodeOf(err) == muster.CodeCircuitOpen {
		err = muster.Errorf(muster.KindOf(err), "%w", err)
	}
	if err == nil && !utf8.Valid(answer.Body) {
		err = badAnswer(path, fmt.Errorf("not UTF-8"))
	}
	return answer, err
}
