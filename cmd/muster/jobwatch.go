package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"muster"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

type jobWatchCmd struct {
	ID string `arg:"" help:"The job."`
}

// Help shows an example.
func (jobWatchCmd) Help() string {
	return `On a terminal each node has a bar, which moves as its program says how far it is; what programs print stands above. Elsewhere each event is a line. --timeout is how long nothing may be heard of the job, not how long it may take.

  muster job watch $(muster run app.deploy --all --detach)`
}

// Run follows a job to its end.
func (c *jobWatchCmd) Run(ctx context.Context, out streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	file, ok := out.err.(*os.File)
	s := newScreen(out.err, ok && isatty.IsTerminal(file.Fd()))
	j, err := client.Watch(ctx, c.ID, f.Timeout, s.tell)
	s.stop()
	if err != nil {
		return err
	}
	return showJob(out, f, j)
}

// screen shows what happens to a job: bars, or lines.
type screen struct {
	out  io.Writer
	all  *mpb.Progress // nil: lines
	bars map[string]*nodeBar
}

// nodeBar is one node's bar and what stands behind it.
type nodeBar struct {
	*mpb.Bar

	says atomic.Value // string; the bar is drawn elsewhere
}

const (
	barWidth   = 30
	wholeOfBar = 100
)

func newScreen(out io.Writer, bars bool) *screen {
	s := &screen{out: out, bars: map[string]*nodeBar{}}
	if bars {
		s.all = mpb.New(mpb.WithOutput(out), mpb.WithWidth(barWidth))
	}
	return s
}

// tell shows an event.
func (s *screen) tell(e muster.JobEvent) error {
	switch e.Type {
	case muster.EventState:
		s.node(e.Node, string(e.State), -1)
	case muster.EventProgress:
		s.node(e.Node, flat(e.Text), *e.Percent)
	case muster.EventResult:
		s.node(e.Node, string(e.Result.State), wholeOfBar)
	case muster.EventLog:
		s.lines(e)
	case muster.EventResync:
		s.line("…\n")
	}
	return nil
}

// node shows how far a node is; below 0 is not known.
func (s *screen) node(slug, says string, percent int) {
	if s.all == nil {
		how := ""
		if percent >= 0 && percent < wholeOfBar {
			how = fmt.Sprintf("%3d %%  ", percent)
		}
		s.line(fmt.Sprintf("%s  %s%s\n", slug, how, says))
		return
	}
	b := s.bars[slug]
	if b == nil {
		b = &nodeBar{}
		b.Bar = s.all.AddBar(wholeOfBar, mpb.PrependDecorators(decor.Name(slug, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.saying() })))
		s.bars[slug] = b
	}
	b.says.Store(says)
	if percent >= 0 {
		b.SetCurrent(int64(percent))
	}
}

func (b *nodeBar) saying() string {
	text, _ := b.says.Load().(string)
	return plain(text)
}

// lines shows what a program printed, each line under its node's name.
func (s *screen) lines(e muster.JobEvent) {
	for text := range strings.Lines(e.Text) {
		s.line(fmt.Sprintf("%s | %s\n", e.Node, flat(text)))
	}
}

func (s *screen) line(text string) {
	if s.all != nil {
		_, _ = io.WriteString(s.all, text)
		return
	}
	_, _ = io.WriteString(s.out, text)
}

// stop leaves the bars as they are.
func (s *screen) stop() {
	if s.all == nil {
		return
	}
	for _, b := range s.bars {
		if !b.Completed() {
			b.Abort(false)
		}
	}
	s.all.Wait()
}
