package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// params reads each value as the type that the action declares. Where that is
// not to be had, what is JSON other than a string is taken as such, and a note
// says so.
func (c *runCmd) params(ctx context.Context, io streams, client *api.Client) (muster.Params, error) {
	if len(c.Param) == 0 {
		return nil, nil
	}
	types, err := c.types(ctx, client)
	if err != nil {
		_, _ = fmt.Fprintf(io.err, "note: the types of the parameters are not known (%v); %s\n", err, untyped)
	}
	params := muster.Params{}
	for _, pair := range c.Param {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, &muster.Error{Kind: muster.Invalid, Message: "-p: " + pair + " is not K=V"}
		}
		if _, twice := params[k]; twice {
			return nil, &muster.Error{Kind: muster.Invalid, Message: "-p: " + k + " is given twice"}
		}
		if declared, some := types[k]; some && declared == "" {
			_, _ = fmt.Fprintf(io.err, "note: versions of %s differ in the type of %s; %s\n", c.Action, k, untyped)
		}
		if params[k], err = valueOf(k, v, types[k]); err != nil {
			return nil, err
		}
	}
	return params, nil
}

const untyped = "a value that is JSON is sent as it is, any other as text"

// valueOf makes JSON of a value, of the type that is declared for it.
func valueOf(name, value, declared string) (json.RawMessage, error) {
	asIs := json.Valid([]byte(value)) && !strings.HasPrefix(value, `"`)
	switch declared {
	case "":
	case "int", "float", "bool", "list", "object":
		if !asIs {
			return nil, &muster.Error{Kind: muster.Invalid, Message: fmt.Sprintf("-p: %s must be %s, and %q is none", name, declared, value)}
		}
	default:
		asIs = false
	}
	if asIs {
		return json.RawMessage(value), nil
	}
	return json.Marshal(value)
}

// types returns the types of the action's parameters; of those on which its
// versions do not agree it is empty.
func (c *runCmd) types(ctx context.Context, client *api.Client) (map[string]string, error) {
	catalog, err := client.Action(ctx, c.Action)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for i, a := range catalog.Actions {
		declared, err := declaredTypes(a)
		if err != nil {
			return nil, err
		}
		for name, other := range declared {
			if i == 0 {
				types[name] = other
			} else if types[name] != other {
				types[name] = ""
			}
		}
		for name := range types {
			if declared[name] == "" {
				types[name] = ""
			}
		}
	}
	return types, nil
}

// declaredTypes reads the parameters' types of one version of an action.
func declaredTypes(a muster.ActionInfo) (map[string]string, error) {
	var declared map[string]struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(a.Params, &declared); err != nil {
		return nil, fmt.Errorf("parameters of %s %s: %w", a.Action, a.Version, err)
	}
	types := map[string]string{}
	for name, p := range declared {
		types[name] = p.Type
	}
	return types, nil
}
