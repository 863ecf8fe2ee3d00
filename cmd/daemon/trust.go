package daemon

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"

	"muster"
	"muster/cluster/trust"
	"muster/gossip"
)

// trust reads the secret, this node's own key and the public certificate.
func (d *Daemon) trust() (err error) {
	secrets, path, err := d.cfg.secrets()
	if err != nil {
		return err
	}
	if d.ring, err = trust.NewRing(secrets); err != nil {
		return err
	}
	if d.id, err = trust.LoadOrCreateIdentity(d.cfg.DataDir); err != nil {
		return err
	}
	if d.public, err = d.cfg.public(); err != nil {
		return err
	}
	d.pairs = trust.NewPairs(d.id, d.nodeKey)
	d.certs = trust.NewCertificates(d.ring, d.id.ID, d.cfg.hosts()...)
	d.secretFile = path
	return nil
}

// secrets finds the secret, and the file it came from, if it came from one.
func (c Config) secrets() (secrets []trust.Secret, path string, err error) {
	switch text := os.Getenv("MUSTER_SECRET"); {
	case c.SecretFile != "":
		secrets, err = trust.LoadSecrets(c.SecretFile)
		return secrets, c.SecretFile, err
	case text != "":
		secrets, err = trust.ParseSecrets(text)
		return secrets, "", err
	case !c.loopback():
		err = flagError("secret-file", "an agent beyond loopback needs an explicit secret")
		return nil, "", errors.Join(err, muster.Errorf(muster.Invalid, "make one: muster secret new > secret; chmod 600 secret"))
	default:
		path = trust.DefaultSecretPath(os.Getenv)
		secrets, err = trust.EnsureSecretFile(path)
		return secrets, path, err
	}
}

// hosts are the names and addresses under which others find this node's HTTP.
func (c Config) hosts() (hosts []string) {
	hosts = []string{"localhost", "127.0.0.1", "::1"}
	if u, err := url.Parse(c.URL); err == nil {
		hosts = append(hosts, u.Hostname())
	}
	for _, addr := range []string{c.AdvertiseHTTP, c.HTTP} {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// serverTLS is what HTTP is served with; nil is plain HTTP.
func (d *Daemon) serverTLS() *tls.Config {
	if d.cfg.TLS != tlsAuto {
		return nil
	}
	return d.certs.HTTPS(d.public.current)
}

// refresh reads the secret and the public certificate again. Of each, all is
// taken or nothing: what cannot be used leaves in force what was before.
func (d *Daemon) refresh() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	return errors.Join(d.reloadSecrets(), d.public.reload())
}

func (d *Daemon) reloadSecrets() error {
	if d.secretFile == "" {
		return nil // of the environment, which does not change
	}
	secrets, err := trust.LoadSecrets(d.secretFile)
	if err != nil {
		return err
	}
	return d.turn.to(d.ring, secrets, func() error {
		if err := d.pool.SetKeys(gossipKeys(secrets)); err != nil {
			return err
		}
		if err := d.member.CutOff(); err != nil {
			d.log.Debug("cut connections", "error", err)
		}
		// The others hear of it when all of this node goes by it.
		d.pool.SetFacts(func(f *gossip.Facts) { f.Secrets = fingerprints(secrets) })
		d.log.Info("secret changed", "understood", len(secrets))
		return nil
	})
}

// turn is a change of secrets that is to reach all of a node. The zero value is
// ready.
type turn struct{ halfway bool } // the ring has what the rest refused

// to puts secrets into the ring, if they are others, and then into the rest:
// also if an earlier try got no further than the ring.
func (t *turn) to(ring *trust.Ring, secrets []trust.Secret, rest func() error) error {
	changed, err := ring.Set(secrets)
	if err != nil || !changed && !t.halfway {
		return err
	}
	err = rest()
	t.halfway = err != nil
	return err
}

func gossipKeys(secrets []trust.Secret) [][]byte {
	keys := make([][]byte, len(secrets))
	for i, s := range secrets {
		keys[i] = s.GossipKey()
	}
	return keys
}

func fingerprints(secrets []trust.Secret) (two [2]uint32) {
	for i := range min(len(two), len(secrets)) {
		two[i] = secrets[i].Fingerprint()
	}
	return two
}
