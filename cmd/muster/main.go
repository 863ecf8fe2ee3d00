// Command muster runs a node of a cluster of applications, and talks to one.
// It holds the words a person types; it decides nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"muster"
	"muster/httpserver/api"
)

// cli is the whole command line.
type cli struct {
	Client clientFlags `embed:"" group:"Talking to a node:"`

	Agent   agentCmd   `cmd:"" help:"Run a node until SIGTERM or Ctrl-C."`
	Demo    demoCmd    `cmd:"" help:"Three agents on this machine: watch a master die."`
	Status  statusCmd  `cmd:"" help:"Show the cluster at a glance."`
	Node    nodeCmd    `cmd:"" help:"The registry."`
	Key     keyCmd     `cmd:"" help:"Bearer keys for HTTP callers."`
	Search  searchCmd  `cmd:"" help:"Search all nodes at once."`
	Run     runCmd     `cmd:"" help:"Run an action on one, several or all nodes."`
	Job     jobCmd     `cmd:"" help:"Earlier and running runs."`
	Tx      txCmd      `cmd:"" help:"Transactions: steps on several nodes, all done or all undone."`
	Action  actionCmd  `cmd:"" help:"The actions that nodes offer."`
	Index   indexCmd   `cmd:"" help:"Put documents into a node's index."`
	Log     logCmd     `cmd:"" help:"The request log: every search, action, write and ping."`
	Cluster clusterCmd `cmd:"" help:"Membership."`
	Secret  secretCmd  `cmd:"" help:"The cluster secret."`
	Invite  inviteCmd  `cmd:"" help:"Print the line that starts the next agent."`
	Config  configCmd  `cmd:"" help:"An agent's settings."`
	Doctor  doctorCmd  `cmd:"" help:"Look for what is wrong, on all nodes, and say what to do."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// streams are where a command writes: results to out, all else to err.
type streams struct{ out, err io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is the program without the process: it returns the exit code.
func run(ctx context.Context, args []string, io streams) int {
	var c cli
	forgetEmpty()
	exited := -1
	parser, err := kong.New(&c, kong.Name("muster"), kong.UsageOnError(), kong.Writers(io.out, io.err),
		kong.Description("Applications find each other, search each other and run actions on each other."),
		kong.Exit(func(code int) { exited = code }), kong.Configuration(loadConfig))
	if err != nil {
		return complain(io, err)
	}
	words, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		return complain(io, &muster.Error{Kind: muster.Invalid, Message: err.Error(), Hint: "see muster --help"})
	}
	words.BindTo(ctx, (*context.Context)(nil))
	words.Bind(io, &c.Client, words)
	if err := words.Run(); err != nil {
		return complain(io, err)
	}
	return 0
}

// forgetEmpty unsets empty variables: kong would take them for a value, and no
// default would count.
func forgetEmpty() {
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); value == "" && strings.HasPrefix(name, "MUSTER_") {
			_ = os.Unsetenv(name) // it is there
		}
	}
}

// complain prints an error and its way out, and returns its exit code.
func complain(io streams, err error) int {
	_, _ = fmt.Fprintln(io.err, "error:", err)
	e, ok := errors.AsType[*muster.Error](err)
	if !ok {
		return api.ExitCode(err)
	}
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		for _, reason := range e.Fields[field] {
			if said := field + ": " + reason; !strings.Contains(err.Error(), said) {
				_, _ = fmt.Fprintln(io.err, "      ", said)
			}
		}
	}
	if e.Hint != "" {
		_, _ = fmt.Fprintln(io.err, "hint: ", e.Hint)
	}
	return api.ExitCode(err)
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(io streams) error {
	_, err := fmt.Fprintln(io.out, "muster", muster.Version)
	return err
}
