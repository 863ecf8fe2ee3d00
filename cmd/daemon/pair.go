package daemon

import (
	"crypto/tls"
	"sync/atomic"

	"muster"
)

// pair is the public certificate and its key, in two files that may change. A
// nil pair is none.
type pair struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]
}

// public loads the public certificate, if there is one.
func (c Config) public() (*pair, error) {
	if c.TLSCert == "" {
		return nil, nil //nolint:nilnil // none is a good answer
	}
	p := &pair{cert: c.TLSCert, key: c.TLSKey}
	return p, p.reload()
}

func (p *pair) current() *tls.Certificate {
	if p == nil {
		return nil
	}
	return p.now.Load()
}

// reload reads both files again.
func (p *pair) reload() error {
	if p == nil {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return muster.Errorf(muster.Invalid, "--tls-cert and --tls-key: %w", err).
			WithHint("PEM files that belong together: the certificate first, then those between it and the root")
	}
	p.now.Store(&cert)
	return nil
}

// files lists what to watch.
func (p *pair) files() []string {
	if p == nil {
		return nil
	}
	return []string{p.cert, p.key}
}
