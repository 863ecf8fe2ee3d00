package api_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// said is an application that answers everything alike.
type said struct {
	code int
	body []byte
}

// RoundTrip answers.
func (s said) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.code, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, ContentLength: int64(len(s.body)),
		Body: io.NopCloser(bytes.NewReader(s.body)),
	}, nil
}

// FuzzWhatAnApplicationAnswers has an application answer anything to a ping, a
// search, an action and the check: an error is fine, and never the node's own.
func FuzzWhatAnApplicationAnswers(f *testing.F) {
	f.Add(uint16(200), []byte(`{"status":"healthy","ready":true,"version":"1","capabilities":["search"]}`))
	f.Add(uint16(200), []byte(`{"results":[{"id":1,"title":"a","score":1e308,"metadata":{"a":[]}}],"total_results":-1}`))
	f.Add(uint16(200), []byte(`{"success":false,"error":{"code":"x","message":"y"},"result":[1]}`))
	f.Add(uint16(422), []byte(`{"error":"e","message":"m","code":"c","errors":{"a":["b"]}}`))
	f.Add(uint16(503), []byte(`<html>`))
	f.Fuzz(func(t *testing.T, code uint16, body []byte) {
		if code < 200 || code > 599 {
			return
		}
		client := &http.Client{Transport: said{int(code), body}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		a := api.Application{URL: "http://app", Credential: "c", HTTP: client}
		errs := make([]error, 3)
		_, errs[0] = a.Health(t.Context())
		_, errs[1] = a.Search(t.Context(), muster.OwnQuery{Query: "a", Limit: 10})
		_, errs[2] = a.Execute(t.Context(), muster.Execution{Action: "app.x"})
		for _, err := range errs {
			if err != nil && muster.KindOf(err) == muster.Internal && code < 500 {
				t.Error(err)
			}
		}
	})
}
