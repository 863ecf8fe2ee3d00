package trust_test

import (
	"bytes"
	"testing"

	"muster"
	"muster/cluster/trust"
)

func vault(secrets ...trust.Secret) trust.Vault { return func() []trust.Secret { return secrets } }

func TestASealedCredentialOpensForItsOwnerOnlyAndShowsNothing(t *testing.T) {
	v := vault(trust.NewSecret())
	sealed, err := v.Seal("node-1", "hunter2-the-credential")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := v.Open("node-1", sealed); err != nil || text != "hunter2-the-credential" {
		t.Fatal(text, err)
	}
	if text, err := v.Open("node-2", sealed); err == nil {
		t.Fatal("another owner reads", text)
	}
	again, err := v.Seal("node-1", "hunter2-the-credential")
	if err != nil || bytes.Equal(again, sealed) || bytes.Contains(sealed, []byte("hunter2")) {
		t.Fatal("sealed text shows what is in it", err)
	}
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		if text, err := v.Open("node-1", broken); err == nil {
			t.Fatalf("byte %d changed, still reads %q", i, text)
		}
	}
	if _, err := v.Open("node-1", nil); err == nil {
		t.Fatal("nothing opens")
	}
}

func TestARotationOpensOldCredentialsAndKnowsWhichToSealAnew(t *testing.T) {
	first, second := trust.NewSecret(), trust.NewSecret()
	sealed, err := vault(first).Seal("n", "text")
	if err != nil {
		t.Fatal(err)
	}
	turning := vault(second, first)
	if text, err := turning.Open("n", sealed); err != nil || text != "text" {
		t.Fatal(text, err)
	}
	if turning.Fresh(sealed) {
		t.Fatal("what the old secret sealed counts as fresh")
	}
	sealed, err = turning.Seal("n", "text")
	if err != nil || !turning.Fresh(sealed) {
		t.Fatal("what the new secret sealed does not count as fresh", err)
	}
	if _, err := vault(first).Open("n", sealed); muster.CodeOf(err) != "credential_sealed" {
		t.Fatal(err)
	}
}
