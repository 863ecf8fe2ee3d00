package httpserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/httpserver/api"
)

// dribble sends a request whose body of 32 MiB never comes, but for its first
// bytes, and returns the answer.
func dribble(t *testing.T, base, token string, first int) (code int, closed bool) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST /v1/documents HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		token, api.MediaNDJSON, 32<<20, strings.Repeat("x", first))
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	_, _ = io.Copy(io.Discard, got.Body)
	return got.StatusCode, got.Close
}

func TestNothingIsReadOfAStrangersBodyButALittle(t *testing.T) {
	base, _ := serve(t, &house{})
	for _, token := range []string{"", "mk_bad", "forged"} {
		// All the stranger gets is one bite; the server answers without the rest.
		if code, closed := dribble(t, base, token, 130<<10); code != 401 || !closed {
			t.Errorf("%q: %d, closed %v", token, code, closed)
		}
	}
}

func TestASmallBodyOfAStrangerKeepsTheConnection(t *testing.T) {
	base, _ := serve(t, &house{})
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/keys", strings.NewReader(`{"name":"k"}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, got.Body)
		_ = got.Body.Close()
		if got.StatusCode != http.StatusUnauthorized || got.Close {
			t.Errorf("%d, closed %v", got.StatusCode, got.Close)
		}
	}
}

func TestAContentTypeIsComparedWithoutItsParameters(t *testing.T) {
	base, _ := serve(t, &house{})
	for media, code := range map[string]int{
		"application/json": 201, "Application/JSON": 201, "application/json; charset=UTF-8": 201, "application/json;v=1": 201, "application/json; x": 201,
		"application/json; charset=latin1": 415, "application/x-ndjson": 415, "text/json": 415, "json": 415, ";": 415,
	} {
		if got := ask(t, "POST", base+"/v1/nodes", "mk_admin", `{"name":"shop","url":"http://h/"}`, "Content-Type", media); got.code != code {
			t.Errorf("%s: %d %s", media, got.code, got.body)
		}
	}
}

func TestWhatCannotBeReadIsAnsweredWithAnID(t *testing.T) {
	base, _ := serve(t, &house{})
	for request, code := range map[string]int{
		"GET\r\n\r\n": 400,
		"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n": 431,
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request)
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		_ = conn.Close()
		if got.StatusCode != code || len(got.Header.Get("X-Request-Id")) != 36 {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		}
	}
}
