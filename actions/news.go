package actions

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"muster"
)

// Bounds of the events of a job that are kept for those who watch it. Who is
// slower loses the oldest and is told so; the job never waits.
const (
	keepEvents     = 2000
	keepEventBytes = 1 << 20  // of what programs printed
	maxLogText     = 16 << 10 // bytes of what one event tells of it
	// interest is how long after somebody asked for a job's events what its
	// programs print is fetched.
	interest = 30 * time.Second
	// drainTime is how long the end of a job is not told to those who watch it,
	// for the last that its programs printed.
	drainTime = 2 * time.Second
)

// news are the events of one job.
type news struct {
	over <-chan struct{} // closed when the job has ended

	mu     sync.Mutex
	events []muster.JobEvent      // guarded by mu
	bytes  int                    // of their texts; guarded by mu
	last   int64                  // seq; guarded by mu
	ended  bool                   // guarded by mu
	next   chan struct{}          // closed with the next event; nil: nobody waits; guarded by mu
	eager  time.Time              // until when somebody watches; guarded by mu
	asked  chan struct{}          // closed when somebody watches; made anew when nobody does; guarded by mu
	unseen []muster.JobTarget     //  that were asked before anybody watched; guarded by mu
	seen   bool                   // somebody watched at some time; guarded by mu
	follow func(muster.JobTarget) // tells what is printed there, for as long as it is wanted
	fetch  sync.WaitGroup         // Add is guarded by mu
	shut   bool                   // no more is to be followed; guarded by mu
}

func newNews(over <-chan struct{}) *news {
	return &news{over: over, asked: make(chan struct{})}
}

// began tells that a node is asked. What it prints is fetched from when on
// somebody watches.
func (n *news) began(t target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addLocked(muster.JobEvent{Type: muster.EventState, Node: t.node.Slug, State: muster.StateRunning})
	if t.node.Kind != muster.KindExternal {
		n.unseen = append(n.unseen, muster.JobTarget{Slug: t.node.Slug, ID: t.node.ID})
	}
	n.followLocked()
}

func (n *news) followLocked() {
	if !n.seen || n.shut {
		return
	}
	for _, t := range n.unseen {
		n.fetch.Go(func() { n.follow(t) })
	}
	n.unseen = nil
}

func (n *news) add(e muster.JobEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addLocked(e)
}

func (n *news) addLocked(e muster.JobEvent) {
	n.last++
	e.Seq, e.At = n.last, time.Now().UTC()
	n.events, n.bytes = append(n.events, e), n.bytes+len(e.Text)
	for len(n.events) > keepEvents || n.bytes > keepEventBytes && len(n.events) > 1 {
		n.bytes -= len(n.events[0].Text)
		n.events = n.events[1:]
	}
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}

// close adds the last event, after what is still fetched for those who watch.
func (n *news) close(e muster.JobEvent) {
	n.mu.Lock()
	n.shut = true
	n.mu.Unlock()
	done := make(chan struct{})
	go func() {
		n.fetch.Wait()
		close(done)
	}()
	grace := time.NewTimer(drainTime)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	n.addLocked(e)
}

// after returns the events behind one, and waits for some until ctx ends.
func (n *news) after(ctx context.Context, seq int64) muster.JobEvents {
	for {
		n.mu.Lock()
		n.eagerLocked()
		if seq != n.last || n.ended || ctx.Err() != nil {
			defer n.mu.Unlock()
			return muster.JobEvents{Events: n.behindLocked(seq), Ended: n.ended}
		}
		if n.next == nil {
			n.next = make(chan struct{})
		}
		next := n.next
		n.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

func (n *news) behindLocked(seq int64) []muster.JobEvent {
	if len(n.events) == 0 {
		return nil
	}
	first := n.events[0].Seq
	if seq >= first-1 && seq <= n.last {
		return slices.Clone(n.events[seq-first+1:])
	}
	return append([]muster.JobEvent{{Seq: first - 1, At: n.events[0].At, Type: muster.EventResync}}, n.events...)
}

// eagerLocked notes that somebody watches.
func (n *news) eagerLocked() {
	select {
	case <-n.asked:
	default:
		close(n.asked)
	}
	n.eager, n.seen = time.Now().Add(interest), true
	n.followLocked()
}

// wanted returns a channel that is closed while somebody watches.
func (n *news) wanted() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.asked:
		if time.Now().After(n.eager) {
			n.asked = make(chan struct{})
		}
	default:
	}
	return n.asked
}

// Events returns what happened to a job after an event, 0 for all, and waits for
// something until ctx ends. What was before all that is still known is replaced
// by one resync. Of a job that ended long ago there are only its results.
func (r *Runner) Events(ctx context.Context, id string, after int64) (muster.JobEvents, error) {
	if j := r.jobs.find(id); j != nil {
		return j.news.after(ctx, after), nil
	}
	j, err := r.cfg.Jobs.Job(id)
	if err != nil {
		return muster.JobEvents{}, err
	}
	told := muster.JobEvents{Ended: true}
	add := func(e muster.JobEvent) {
		after++
		e.Seq, e.At = after, cmp.Or(j.EndedAt, j.StartedAt)
		told.Events = append(told.Events, e)
	}
	if after > 0 {
		add(muster.JobEvent{Type: muster.EventResync})
	}
	for _, slug := range slices.Sorted(maps.Keys(j.Results)) {
		result := j.Results[slug]
		add(muster.JobEvent{Type: muster.EventResult, Node: slug, Result: &result})
	}
	add(muster.JobEvent{Type: muster.EventSummary, Job: &j})
	return told, nil
}

// follow tells what a node's program prints, for as long as somebody watches.
func (r *Runner) follow(ctx context.Context, j *job, t muster.JobTarget) {
	a := muster.OutputAsk{Job: j.id, Wait: true}
	for patience := retryOutput; ; patience = min(2*patience, maxRetryOutput) {
		select {
		case <-j.news.wanted():
		case <-j.news.over:
			if !j.news.watched() {
				return
			}
		case <-ctx.Done():
			return
		}
		ended := r.jobs.hasEnded(j, t.Slug)
		a.Wait = !ended
		out, err := r.outputAt(ctx, j, t.ID, a)
		switch {
		case err == nil:
			j.news.printed(t.Slug, out, &a)
		case !ended:
			j.news.pass(ctx, patience)
		}
		if ended || err == nil && !out.Running {
			return
		}
	}
}

// When a node is asked again that did not tell what it prints: first, and at
// most. Its program may not have started, or there is none.
const (
	retryOutput    = 100 * time.Millisecond
	maxRetryOutput = time.Second
)

// pass lets a time go by, unless ctx or the job ends first.
func (n *news) pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.over:
	case <-ctx.Done():
	}
}

// watched reports whether somebody watches.
func (n *news) watched() bool {
	select {
	case <-n.wanted():
		return true
	default:
		return false
	}
}

// hasEnded reports whether a job's node has ended.
func (s *jobs) hasEnded(j *job, slug string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ended := j.Results[slug]
	return ended
}

// outputTime is how long a node is asked for what it prints at once.
const outputTime = 10 * time.Second

func (r *Runner) outputAt(ctx context.Context, j *job, id string, a muster.OutputAsk) (muster.Output, error) {
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	if id == r.cfg.Self {
		return r.local.Output(ctx, j.by, a)
	}
	n, there := r.nodeWith(id)
	if !there {
		return muster.Output{}, noOutput()
	}
	return r.remote.Output(ctx, n, j.by, a)
}

// printed tells what is new in an output, and notes in a that it is known.
func (n *news) printed(slug string, out muster.Output, a *muster.OutputAsk) {
	a.Stdout, a.Stderr = a.Stdout+len(out.Stdout), a.Stderr+len(out.Stderr)
	if p := out.Progress; p != nil && p.Step > a.Step {
		a.Step = p.Step
		n.add(muster.JobEvent{Type: muster.EventProgress, Node: slug, Percent: &p.Percent, Text: p.Text})
	}
	for _, s := range [][2]string{{"stdout", out.Stdout}, {"stderr", out.Stderr}} {
		for text := s[1]; text != ""; {
			cut := runes(text, maxLogText)
			n.add(muster.JobEvent{Type: muster.EventLog, Node: slug, Stream: s[0], Text: text[:cut]})
			text = text[cut:]
		}
	}
}

// runes is the length of the longest beginning of a text that has at most so many
// bytes and ends with a whole letter.
func runes(text string, most int) int {
	if len(text) <= most {
		return len(text)
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return most
}
