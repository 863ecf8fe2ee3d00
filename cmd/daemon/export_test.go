package daemon

import (
	"net/http"

	"muster/cluster/trust"
)

// Meant is a client for the node with an ID, over connections shared with
// those for other nodes.
func Meant(shared *http.Transport, id string) *http.Client {
	return &http.Client{Transport: meant{id, shared}}
}

// NewDialer is newDialer.
func NewDialer(certs *trust.Certificates) *http.Transport { return newDialer(certs) }
