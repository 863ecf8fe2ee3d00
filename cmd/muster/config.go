package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"muster"
)

// fileValues is a configuration file: flag names and their values. Flags and
// the environment come before it.
type fileValues struct{ values map[string]any }

var _ kong.Resolver = fileValues{}

// loadConfig reads a YAML file of settings. It is strict: see Validate.
func loadConfig(in io.Reader) (kong.Resolver, error) {
	raw, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return nil, &muster.Error{Kind: muster.Invalid, Message: "configuration: " + yaml.FormatError(err, false, true)}
	}
	return fileValues{values}, nil
}

// agentFlags are the settings that a file may hold.
func agentFlags(app *kong.Application) (flags []*kong.Flag) {
	for _, flag := range app.Flags {
		if flag.Name == "secret-file" {
			flags = append(flags, flag)
		}
	}
	for _, cmd := range app.Children {
		for _, flag := range cmd.Flags {
			if cmd.Name == "agent" && flag.Name != "config" {
				flags = append(flags, flag)
			}
		}
	}
	return flags
}

// Validate refuses keys that are no setting of an agent.
func (f fileValues) Validate(app *kong.Application) error {
	var unknown []string
	for key := range f.values {
		if !slices.ContainsFunc(agentFlags(app), func(flag *kong.Flag) bool { return flag.Name == key }) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	if len(unknown) > 0 {
		return &muster.Error{Kind: muster.Invalid, Message: "configuration: no such setting: " + strings.Join(unknown, ", ")}
	}
	return nil
}

// Resolve gives the value of a flag that neither the command line nor the
// environment sets.
func (f fileValues) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f.values[flag.Name]
	if !ok || fromEnvironment(flag) {
		return nil, nil //nolint:nilnil // kong's way to say: not here
	}
	switch v := value.(type) {
	case map[string]any: // meta
		pairs := make([]any, 0, len(v))
		for key, one := range v {
			pairs = append(pairs, fmt.Sprintf("%s=%v", key, one))
		}
		return pairs, nil
	case []any, string:
		return v, nil
	case nil:
		return nil, &muster.Error{Kind: muster.Invalid, Message: "configuration: " + flag.Name + " has no value"}
	default:
		return fmt.Sprint(v), nil
	}
}

func fromEnvironment(flag *kong.Flag) bool {
	return slices.ContainsFunc(flag.Envs, func(name string) bool { return os.Getenv(name) != "" })
}
