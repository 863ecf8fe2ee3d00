package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"muster/cmd/daemon"
)

type configCmd struct {
	Show     configShowCmd     `cmd:"" help:"Print what an agent would go by, all sources put together."`
	Validate configValidateCmd `cmd:"" help:"Check the settings and all files they name, without starting anything."`
}

// agentSettings are an agent's flags, as a command that starts none takes them.
type agentSettings struct {
	Config kong.ConfigFlag `help:"YAML file of these settings; flags and the environment come before it." placeholder:"FILE"`
	Agent  daemon.Config   `embed:""`
}

// setting is one setting of an agent and where its value came from.
type setting struct {
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Origin string `json:"origin,omitempty"`
}

type configShowCmd struct {
	agentSettings

	Origin bool `help:"Say where each value came from: the command line, the environment, the file, a default, or other settings."`
}

// Run prints the settings.
func (c *configShowCmd) Run(io streams, f *clientFlags, words *kong.Context) (err error) {
	c.Agent.SecretFile = f.SecretFile
	if c.Agent, err = c.Agent.Complete(); err != nil {
		return err
	}
	var all []setting
	names := map[string]bool{}
	for _, flag := range agentFlags(words.Model) {
		names[flag.Name] = true
	}
	for _, flag := range words.Flags() {
		if !names[flag.Name] {
			continue
		}
		s := setting{Name: flag.Name, Value: flag.Target.Interface()}
		if c.Origin {
			s.Origin = c.origin(words, flag)
		}
		all = append(all, s)
	}
	return list(f, io, map[string]any{"settings": all}, all, func(w *grid) {
		for _, s := range append([]setting{{"SETTING", "VALUE", "ORIGIN"}}, all...) {
			if c.Origin {
				line(w, s.Name, text(s.Value), s.Origin)
			} else {
				line(w, s.Name, text(s.Value))
			}
		}
	})
}

func text(value any) string {
	if list, ok := value.([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(value)
}

// origin says where a flag's value came from.
func (c *configShowCmd) origin(words *kong.Context, flag *kong.Flag) string {
	at := slices.IndexFunc(words.Path, func(p *kong.Path) bool { return p.Flag == flag })
	env := slices.IndexFunc(flag.Envs, func(name string) bool { return os.Getenv(name) != "" })
	switch {
	case at >= 0 && !words.Path[at].Resolved:
		return "--" + flag.Name
	case env >= 0:
		return flag.Envs[env]
	case at >= 0:
		return string(c.Config)
	case flag.HasDefault || reflect.ValueOf(flag.Target.Interface()).IsZero():
		return "default"
	default:
		return "other settings"
	}
}

type configValidateCmd struct{ agentSettings }

// Run checks the settings.
func (c *configValidateCmd) Run(io streams, f *clientFlags) error {
	c.Agent.SecretFile = f.SecretFile
	if err := daemon.Validate(c.Agent); err != nil {
		return err
	}
	return f.show(io, map[string]bool{"valid": true}, func(w *grid) { line(w, "the settings are valid") })
}
