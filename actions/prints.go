package actions

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"muster"
)

// prints is what the program of one execution prints, for those who look on.
// Nobody who looks holds the program up.
type prints struct {
	job, action string
	hide        redactor

	mu       sync.Mutex
	out, err *capture         // guarded by mu; nil: no program was started
	progress *muster.Progress // the latest; guarded by mu
	ended    bool             // guarded by mu
	news     chan struct{}    // closed with the next change; guarded by mu; nil: nobody waits
}

// attach names the streams of the program that is started.
func (p *prints) attach(out, err *capture) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out, p.err = out, err
	out.to, err.to = p, p
}

// tellLocked lets those who wait look again.
func (p *prints) tellLocked() {
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// end says that nothing is printed any more.
func (p *prints) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.tellLocked()
}

// note takes a line that a program printed, if it says how far it is.
func (p *prints) noteLocked(line []byte) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(progressMark))
	if !ok {
		return
	}
	number, text, _ := strings.Cut(strings.TrimSpace(string(rest)), " ")
	percent, err := strconv.Atoi(strings.TrimSuffix(number, "%"))
	if err != nil || percent < 0 || percent > 100 {
		return
	}
	step := 1
	if p.progress != nil {
		step += p.progress.Step
	}
	p.progress = &muster.Progress{Step: step, Percent: percent, Text: strings.ToValidUTF8(p.hide.text(strings.TrimSpace(text)), "\ufffd")}
}

const (
	progressMark = "::progress "
	maxLine      = 512 // of a line that says how far a program is
	// settle is how long what follows a change is waited for: a program prints
	// in small pieces.
	settleTime = 50 * time.Millisecond
)

// ask returns what there is behind what the asker knows, and waits for it if
// that is asked.
func (p *prints) ask(ctx context.Context, a muster.OutputAsk) muster.Output {
	for waited := false; ; waited = true {
		p.mu.Lock()
		out := p.showLocked()
		more := len(out.Stdout) > a.Stdout || len(out.Stderr) > a.Stderr || out.Progress != nil && out.Progress.Step > a.Step || !out.Running
		if more || !a.Wait || ctx.Err() != nil {
			p.mu.Unlock()
			if more && waited && out.Running {
				pass(ctx, settleTime)
				p.mu.Lock()
				out = p.showLocked()
				p.mu.Unlock()
			}
			return behind(out, a)
		}
		if p.news == nil {
			p.news = make(chan struct{})
		}
		news := p.news
		p.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// pass lets a time go by, unless ctx ends first.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p *prints) showLocked() muster.Output {
	o := muster.Output{Job: p.job, Action: p.action, Running: !p.ended, Progress: p.progress}
	if p.out == nil {
		return o
	}
	for _, s := range []struct {
		from *capture
		to   *string
	}{{p.out, &o.Stdout}, {p.err, &o.Stderr}} {
		if o.Running {
			*s.to = s.from.sofar()
			o.Truncated = o.Truncated || s.from.cut()
			continue
		}
		text, dropped := s.from.whole()
		*s.to = text
		o.Dropped += dropped
		o.Truncated = o.Truncated || dropped > 0
	}
	return o
}

// behind is the part of an output that an asker does not know.
func behind(o muster.Output, a muster.OutputAsk) muster.Output {
	o.Stdout, o.Stderr = o.Stdout[min(max(a.Stdout, 0), len(o.Stdout)):], o.Stderr[min(max(a.Stderr, 0), len(o.Stderr)):]
	return o
}

// sofar is the beginning as far as it is sure: without a secret or a letter of
// which more may come. What comes later only adds to it.
func (c *capture) sofar() string {
	text := c.head
	for i := 1; i < utf8.UTFMax && i <= len(text) && !c.cut(); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(text[len(text)-i:]) {
				text = text[:len(text)-i]
			}
			break
		}
	}
	return strings.ToValidUTF8(c.hide.head(string(text)), "\ufffd")
}

// whole is all that is kept: the beginning, and, if there was more, the end, and
// between them how many bytes are missing.
func (c *capture) whole() (text string, dropped int64) {
	gap := c.total - int64(len(c.head)) - int64(len(c.tail))
	if gap <= 0 {
		all := append(append([]byte{}, c.head...), c.tail[min(-gap, int64(len(c.tail))):]...)
		return strings.ToValidUTF8(c.hide.text(string(all)), "\ufffd"), 0
	}
	head := strings.ToValidUTF8(c.hide.head(string(c.head)), "\ufffd")
	tail := strings.ToValidUTF8(c.hide.tail(string(c.tail)), "\ufffd")
	return head + fmt.Sprintf("\n[… %d bytes omitted …]\n", gap) + tail, gap
}
