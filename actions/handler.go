package actions

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// Handler says how an action is done: by a program of this machine (exec), by a
// call to the application beside the agent (http), or by a function of the
// program that the agent is part of (go).
//
// A program is started directly and never by a shell. It reads the parameters
// from argv, or as JSON from standard input; it writes its result as JSON to the
// file named by MUSTER_RESULT. Without that file the result is what it printed: as
// JSON with Stdout "json", else as text.
type Handler struct {
	Kind   string   `json:"kind"`   // exec, http or go
	Argv   []string `json:"argv"`   // exec: absolute path, then arguments
	Stdin  string   `json:"stdin"`  // exec: "params", or nothing
	Stdout string   `json:"stdout"` // exec: "json", or nothing
	Cwd    string   `json:"cwd"`    // exec: absolute; default: a directory made for the execution
	RunAs  string   `json:"run_as"` // exec: a user of this machine; default: the agent's own, unless that is root

	URL       string   `json:"url"`        // http: where the parameters are posted to
	Allow     []string `json:"allow"`      // http: addresses or networks it may lead to besides this machine's own
	TokenFile string   `json:"token_file"` // http: absolute path of the file with the bearer token

	args []argument
	as   account
	open openings
	call Func // of a go handler
}

// argument is one element of argv: prefix, then the value of param if there is
// one.
type argument struct {
	prefix, param string
	dash          bool // the value may begin with -
}

// finish checks a handler. params are those it may use.
func (h *Handler) finish(bad faults, at string, params map[string]Param) {
	switch h.Kind {
	case "exec":
		h.finishExec(bad, at, params)
	case "http":
		h.finishHTTP(bad, at)
	case "go":
		bad.check(h.call != nil, at+"/kind", "go actions are part of a program and are not defined in files")
	case "builtin":
		bad.check(false, at+"/kind", "builtin actions are part of the program and are not defined in files")
		return
	default:
		bad.check(false, at+"/kind", "must be exec or http")
		return
	}
	for kind, fields := range map[string]map[string]bool{
		"exec": {"argv": h.Argv != nil, "stdin": h.Stdin != "", "stdout": h.Stdout != "", "cwd": h.Cwd != "", "run_as": h.RunAs != ""},
		"http": {"url": h.URL != "", "allow": h.Allow != nil, "token_file": h.TokenFile != ""},
	} {
		for field, said := range fields {
			bad.check(!said || h.Kind == kind, at+"/"+field, "is for %s", kind)
		}
	}
}

func (h *Handler) finishExec(bad faults, at string, params map[string]Param) {
	var err error
	h.as, err = accountOf(h.RunAs)
	bad.check(err == nil, at+"/run_as", "%v", err)
	bad.check(oneOf(h.Stdin, "", "params"), at+"/stdin", "must be params")
	bad.check(oneOf(h.Stdout, "", "json"), at+"/stdout", "must be json")
	bad.check(h.Cwd == "" || filepath.IsAbs(h.Cwd), at+"/cwd", "must be an absolute path")
	whole := len(h.Argv) > 0 && filepath.IsAbs(h.Argv[0])
	bad.check(whole, at+"/argv", "must begin with the absolute path of a program")
	h.args = nil
	afterDashes := false
	for i, element := range h.Argv {
		arg, reason := parseArgument(element, i, params)
		bad.check(reason == "", fmt.Sprintf("%s/argv/%d", at, i), "%s", reason)
		arg.dash = afterDashes || arg.prefix != "" || params[arg.param].AllowDash
		afterDashes = afterDashes || element == "--"
		h.args = append(h.args, arg)
	}
	if whole {
		h.judgeArgv(bad, at)
	}
}

// parseArgument reads one element. A placeholder is all of it, or all that
// follows the first =.
func parseArgument(element string, i int, params map[string]Param) (a argument, reason string) {
	written := strings.NewReplacer("\n", "", "\t", "").Replace(element) // a definition may hold a text of lines
	if strings.ContainsFunc(written, unicode.IsControl) || !utf8.ValidString(element) {
		return a, "has control characters"
	}
	refs := references(element)
	if len(refs) == 0 && !strings.Contains(element, "${") {
		return argument{prefix: element}, ""
	}
	prefix, value := "", element
	if option, after, ok := strings.Cut(element, "="); ok && !strings.Contains(option, "${") {
		prefix, value = option+"=", after
	}
	if i == 0 || len(refs) != 1 || value != "${"+refs[0]+"}" {
		return a, "a placeholder ${x} must be a whole argument, or all that follows the first ="
	}
	name := strings.TrimPrefix(refs[0], "params.")
	p, declared := params[name]
	switch {
	case !declared:
		return a, fmt.Sprintf("no parameter %s is declared", name)
	case p.Secret:
		return a, name + " is secret, and arguments are visible to all: use stdin: params"
	case oneOf(p.Type, "list", "object"):
		return a, name + " is a " + p.Type + ": use stdin: params"
	}
	return argument{prefix: prefix, param: name}, ""
}

// references returns the names in ${name}, in order.
func references(text string) (names []string) {
	for {
		_, after, ok := strings.Cut(text, "${")
		if !ok {
			return names
		}
		name, rest, ok := strings.Cut(after, "}")
		if !ok {
			return names
		}
		names = append(names, name)
		text = rest
	}
}

// fill puts the parameters into argv. An option whose parameter is absent is
// left out; one that stands alone must be given, for what follows would take its
// place. Each value becomes one argument, or the end of one, as it is.
func (h *Handler) fill(params muster.Params) ([]string, error) {
	bad, argv := faults{}, make([]string, 0, len(h.args))
	for _, a := range h.args {
		if a.param == "" {
			argv = append(argv, a.prefix)
			continue
		}
		raw, ok := params[a.param]
		if !ok {
			bad.check(a.prefix != "", a.param, "must be given: it stands alone among the arguments")
			continue
		}
		text := textOf(raw)
		bad.check(!strings.ContainsFunc(text, unicode.IsControl), a.param, "must not have control characters")
		bad.check(a.dash || !strings.HasPrefix(text, "-"), a.param, "must not begin with -")
		argv = append(argv, a.prefix+text)
	}
	return argv, bad.err("invalid_params")
}

// textOf returns a string without its quotes, anything else as it is written.
func textOf(raw json.RawMessage) string {
	var text string
	if jsontext.Value(raw).Kind() == '"' && json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// paramsJSON writes the parameters as one JSON object with sorted names.
func paramsJSON(params muster.Params) []byte {
	out := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(params)) {
		if i > 0 {
			out = append(out, ',')
		}
		quoted, _ := jsontext.AppendQuote(nil, name) // declared names are plain words
		out = append(append(append(out, quoted...), ':'), params[name]...)
	}
	return append(out, '}', '\n')
}
