package api_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestAnErrorSurvivesTheWire(t *testing.T) {
	for _, want := range []struct {
		kind         muster.Kind
		status, exit int
	}{
		{muster.Malformed, 400, 2},
		{muster.Invalid, 422, 2},
		{muster.Unauthorized, 401, 5},
		{muster.Forbidden, 403, 5},
		{muster.NotFound, 404, 1},
		{muster.Gone, 410, 1},
		{muster.Conflict, 409, 1},
		{muster.TooLarge, 413, 2},
		{muster.Unsupported, 415, 2},
		{muster.Limited, 429, 1},
		{muster.NotMaster, 503, 4},
		{muster.NoMaster, 503, 4},
		{muster.Unavailable, 503, 4},
		{muster.Timeout, 504, 4},
		{muster.OutcomeUnknown, 504, 4},
		{muster.Partial, 503, 3},
		{muster.Internal, 500, 1},
	} {
		for _, code := range []string{"", "special"} {
			err := &muster.Error{Kind: want.kind, Code: code, Message: "m", Hint: "h", Fields: map[string][]string{"f": {"r"}}}
			raw, _ := json.Marshal(api.ErrorBody(err, "r1"))
			back := api.FromResponse(api.Status(err), raw)
			if api.Status(err) != want.status || api.ExitCode(err) != want.exit {
				t.Errorf("%s: status %d, exit %d", want.kind, api.Status(err), api.ExitCode(err))
			}
			if api.Status(back) != want.status || muster.CodeOf(back) != muster.CodeOf(err) || code == "" && muster.KindOf(back) != want.kind {
				t.Errorf("%s %q came back as %s %q", want.kind, code, muster.KindOf(back), muster.CodeOf(back))
			}
			if e, ok := errors.AsType[*muster.Error](back); !ok || e.Message != "m" || e.Hint != "h" || len(e.Fields["f"]) != 1 {
				t.Errorf("%s came back as %+v", want.kind, back)
			}
		}
	}
}

func TestACauseStaysInside(t *testing.T) {
	if body := api.ErrorBody(errors.New("open /etc/secret"), "r1"); strings.Contains(body.Message, "secret") {
		t.Error(body)
	}
}

func TestAKeyOfAnIdleNodeLearnsItsStatus(t *testing.T) {
	err := muster.Errorf(muster.Forbidden, "Node is not active").WithCode("node_maintenance")
	if got := api.ErrorBody(err, "r1").NodeStatus; got != muster.StatusMaintenance {
		t.Error(got)
	}
}

func TestAStrangersErrorHasTheKindOfItsStatus(t *testing.T) {
	for status, want := range map[int]muster.Kind{
		404: muster.NotFound, 405: muster.Malformed, 502: muster.OutcomeUnknown, 503: muster.Unavailable, 504: muster.OutcomeUnknown, 507: muster.Internal,
	} {
		if err := api.FromResponse(status, []byte("<html>")); muster.KindOf(err) != want {
			t.Errorf("%d is %s", status, muster.KindOf(err))
		}
	}
}

func TestJSONMayNestSixtyFourDeepAndNoDeeper(t *testing.T) {
	var any any
	if err := api.Decode([]byte(strings.Repeat("[", 64)+`"[[[\"[["`+strings.Repeat("]", 64)), &any); err != nil {
		t.Error(err)
	}
	if err := api.Decode([]byte(strings.Repeat("[", 65)+strings.Repeat("]", 65)), &any); muster.KindOf(err) != muster.Malformed {
		t.Error(err)
	}
}

func TestAFieldIsNamedAsItWasWritten(t *testing.T) {
	err := api.Decode([]byte(`{"query":"a","options":{"a/b~c":1}}`), &muster.Query{})
	if e, ok := errors.AsType[*muster.Error](err); !ok || e.Fields["options.a/b~c"] == nil {
		t.Errorf("%+v", err)
	}
}

func TestAStrangersReasonIsShownOnOneSafeLine(t *testing.T) {
	for body, want := range map[string]string{
		"upstream connect error\nline two": "answer 503 Service Unavailable: upstream connect error",
		"\x1b[31mred\a":                    `answer 503 Service Unavailable: \x1b[31mred\a`,
		`he said "no"`:                     `answer 503 Service Unavailable: he said "no"`,
		"":                                 "answer 503 Service Unavailable",
		`{"detail":"busy"}`:                `answer 503 Service Unavailable: {"detail":"busy"}`,
		strings.Repeat("ü", 500):           "answer 503 Service Unavailable: " + strings.Repeat("ü", 199) + "…",
	} {
		if err := api.FromResponse(503, []byte(body)); err.Error() != want {
			t.Errorf("%q became %q", body, err)
		}
	}
}
