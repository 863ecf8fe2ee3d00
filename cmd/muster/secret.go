package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"
)

type secretCmd struct {
	New    secretNewCmd    `cmd:"" help:"Print a new cluster secret."`
	Rotate secretRotateCmd `cmd:"" help:"Change the secret of a running cluster, one step at a time."`
	CA     secretCACmd     `cmd:"" name:"ca" help:"Print the certificate of the cluster's authority, for callers without the secret."`
}

type secretNewCmd struct{}

// Run prints a fresh secret.
func (secretNewCmd) Run(io streams) error {
	_, err := fmt.Fprintln(io.out, trust.NewSecret().Hex())
	return err
}

type secretCACmd struct{}

// Run prints the certificates by which nodes can be verified.
func (secretCACmd) Run(io streams, f *clientFlags) error {
	secrets, err := trust.LoadSecrets(f.secretPath())
	if err != nil {
		return err
	}
	for _, s := range secrets {
		raw, err := s.CertificatePEM()
		if err != nil {
			return err
		}
		if _, err := io.out.Write(raw); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

type secretRotateCmd struct {
	Add  bool `help:"Write a new secret into the file, as its second line." xor:"step" required:""`
	Use  bool `help:"Make the second line the first, once every living node understands it." xor:"step" required:""`
	Back bool `help:"Make the old line the first again, as long as it is there." xor:"step" required:""`
	Drop bool `help:"Take the second line out, once every living node speaks the first." xor:"step" required:""`
}

// Run takes one step in the local secret file. Agents notice it by themselves.
func (c *secretRotateCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	secrets, err := trust.LoadSecrets(f.secretPath())
	if err != nil {
		return err
	}
	if c.Add && len(secrets) > 1 || !c.Add && len(secrets) != 2 {
		return &muster.Error{
			Kind: muster.Conflict, Message: fmt.Sprintf("%s has %s", f.secretPath(), lines(len(secrets))),
			Hint: "--add makes one line two, the other steps need exactly two",
		}
	}
	used, err := trust.Used(f.secretPath())
	if err != nil {
		return err
	}
	if c.Use && used {
		return f.rotated(io, secrets, "The new secret is the first line already. Next: muster secret rotate --drop")
	}
	if c.Back && !used {
		return &muster.Error{
			Kind: muster.Conflict, Message: fmt.Sprintf("the first line of %s is the old secret still, as far as it says", f.secretPath()),
			Hint: "--drop takes the second line out",
		}
	}
	var next string
	switch {
	case c.Add:
		secrets = append(secrets, trust.NewSecret())
		next = "Bring the file to all other machines, then: muster secret rotate --use"
	case c.Use, c.Back:
		_, err = f.ready(ctx, io, "understand the second line", func(p muster.PeerStatus) bool {
			return slices.Contains(p.Secrets, fingerprint(secrets[1]))
		})
		slices.Reverse(secrets)
		next = "Bring the file to all other machines, then: muster secret rotate --drop"
		if c.Back {
			next = "Bring the file to all other machines. To go on another time: muster secret rotate --use"
		}
	default:
		var seen muster.ClusterStatus
		seen, err = f.ready(ctx, io, "speak the new secret", func(p muster.PeerStatus) bool {
			return len(p.Secrets) > 0 && p.Secrets[0] == fingerprint(secrets[0])
		})
		if err == nil && seen.OldSeals > 0 {
			err = &muster.Error{
				Kind: muster.Conflict, Message: fmt.Sprintf("the credentials of %d nodes are sealed with the old secret still", seen.OldSeals),
				Hint: "the master seals them anew every five seconds: try again",
			}
		}
		secrets = secrets[:1]
		next = "Bring the file to all other machines. Who has the old secret alone is out from then on."
	}
	if err != nil {
		return err
	}
	if err := trust.ReplaceSecretFile(f.secretPath(), secrets, c.Use); err != nil {
		return err
	}
	return f.rotated(io, secrets, next)
}

// rotated says what a secret file holds now, and what comes next.
func (f *clientFlags) rotated(io streams, secrets []trust.Secret, next string) error {
	_, _ = fmt.Fprintln(io.err, next)
	now := rotation{File: f.secretPath()}
	for _, s := range secrets {
		now.Secrets = append(now.Secrets, fingerprint(s))
	}
	return f.show(io, now, func(w *grid) {
		line(w, "FILE", "SPEAKS", "UNDERSTANDS")
		line(w, now.File, now.Secrets[0], strings.Join(now.Secrets, " "))
	})
}

// rotation is what a secret file holds now, by fingerprints.
type rotation struct {
	File    string   `json:"file"`
	Secrets []string `json:"secrets"` // the first speaks
}

func lines(n int) string {
	if n == 1 {
		return "one line"
	}
	return fmt.Sprint(n, " lines")
}

func fingerprint(s trust.Secret) string { return fmt.Sprintf("%08x", s.Fingerprint()) }

// ready refuses a step that a living node is not ready for. Who is dead does not
// count, and is named.
func (f *clientFlags) ready(ctx context.Context, io streams, what string, ok func(muster.PeerStatus) bool) (s muster.ClusterStatus, err error) {
	client, err := f.client()
	if err != nil {
		return s, err
	}
	if s, err = f.cluster(ctx, client); err != nil {
		return s, err
	}
	if s.Master == nil {
		return s, muster.Errorf(muster.NoMaster, "the node asked sees no master, so it may not see who lives").
			WithHint("ask a node that is in contact with the majority: --addr")
	}
	var late, dead []string
	for _, p := range s.Peers {
		switch name := p.Slug; {
		case ok(p):
		case p.Alive:
			late = append(late, name)
		default:
			dead = append(dead, name)
		}
	}
	if len(late) > 0 {
		return s, &muster.Error{
			Kind: muster.Conflict, Message: "these nodes do not " + what + " yet: " + strings.Join(late, ", "),
			Hint: "bring them the secret file; they read it within a second, or at once on SIGHUP. An agent that got its secret from MUSTER_SECRET needs a restart",
		}
	}
	if len(dead) > 0 {
		_, _ = fmt.Fprintln(io.err, "Dead, and not asked: "+strings.Join(dead, ", ")+". They need the new secret file before they come back.")
	}
	return s, nil
}

func (f *clientFlags) cluster(ctx context.Context, client *api.Client) (muster.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.Cluster(ctx)
}
