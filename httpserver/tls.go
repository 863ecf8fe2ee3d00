package httpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// encrypted is a listener for HTTPS.
type encrypted struct {
	net.Listener
	conf *tls.Config
}

// Accept waits for the next connection, not for its handshake: that is made
// by who serves it, within the time that a request has.
func (e encrypted) Accept() (net.Conn, error) {
	conn, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &told{Conn: tls.Server(conn, e.conf)}, nil
}

// wrongScheme is what a caller who speaks plain HTTP gets to read.
const wrongScheme = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
	`{"error":"Bad Request","message":"this port speaks HTTPS: use https:// in the address","code":"https_required"}` + "\n"

// told is a connection that tells callers who speak plain HTTP what is wrong.
type told struct{ *tls.Conn }

// Handshake agrees on keys with the caller.
func (t *told) Handshake() error {
	err := t.Conn.Handshake() //nolint:noctx // who serves it has set a deadline
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil {
		_, _ = io.WriteString(e.Conn, wrongScheme)
	}
	return err
}
