package actions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"muster"
)

// Bounds of the outputs that a node keeps.
const (
	keepOutputs     = 1000
	keepOutputBytes = 64 << 20
	maxJobName      = 150
	spoolEnding     = ".json"
)

// Spool keeps what programs printed, a file for each execution in one
// directory, the latest ones within its bounds. It is safe for concurrent use.
type Spool struct {
	dir string

	mu    sync.Mutex
	files []spooled // the oldest first; guarded by mu
	bytes int64     // of all; guarded by mu
}

type spooled struct {
	name string
	size int64
}

// OpenSpool opens a directory, and makes it if there is none.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep outputs in %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("keep outputs in %s: %w", dir, err)
	}
	s := &Spool{dir: dir}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !strings.HasSuffix(e.Name(), spoolEnding) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // half written when the node went down
			continue
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range infos {
		s.files, s.bytes = append(s.files, spooled{info.Name(), info.Size()}), s.bytes+info.Size()
	}
	return s, s.trimLocked()
}

func nameOf(job string) string { return url.PathEscape(job) + spoolEnding }

// put keeps an output. It is whole or not there.
func (s *Spool) put(o muster.Output) error {
	if o.Job == "" || len(o.Job) > maxJobName {
		return nil
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	name := nameOf(o.Job)
	f, err := os.CreateTemp(s.dir, "*.part")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(f.Name(), filepath.Join(s.dir, name)); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	s.files = slices.DeleteFunc(s.files, func(old spooled) bool {
		if old.name == name {
			s.bytes -= old.size
		}
		return old.name == name
	})
	s.files, s.bytes = append(s.files, spooled{name, int64(len(raw))}), s.bytes+int64(len(raw))
	return s.trimLocked()
}

// trimLocked forgets the oldest files beyond the bounds.
func (s *Spool) trimLocked() (err error) {
	for len(s.files) > keepOutputs || s.bytes > keepOutputBytes {
		old := s.files[0]
		if e := os.Remove(filepath.Join(s.dir, old.name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		s.files, s.bytes = s.files[1:], s.bytes-old.size
	}
	return err
}

// output returns what is kept of a job. It is NotFound when there is nothing.
func (s *Spool) output(job string) (o muster.Output, err error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, nameOf(job)))
	if errors.Is(err, fs.ErrNotExist) || len(job) > maxJobName {
		return o, noOutput()
	}
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(raw, &o)
}

func noOutput() error {
	return muster.Errorf(muster.NotFound, "this node has no output of the job").WithCode("no_output").
		WithHint("only programs print something, none is kept whose result has a secret field, and a node keeps the latest outputs: 1000, at most 64 MiB")
}

// watched are the executions that print now.
type watched struct {
	mu   sync.Mutex
	live map[string]*prints // by job; guarded by mu
}

// prints reports whether there is a program whose output may be seen. While a
// program runs nobody knows the secrets of its result, and it may print them.
func (d *Definition) prints(check bool) bool {
	for _, field := range d.Result {
		if field.Secret {
			return false
		}
	}
	h := d.handler(check)
	return h != nil && h.Kind == "exec"
}

// watch has what an execution prints seen, and kept when it ends.
func (e *Executor) watch(ctx context.Context, c *call) (end func()) {
	if c.job == "" || !c.def.prints(c.check) {
		return func() {}
	}
	p := &prints{job: c.job, action: c.def.Action, hide: c.hide}
	c.seen = p
	e.watched.mu.Lock()
	if e.watched.live == nil {
		e.watched.live = map[string]*prints{}
	}
	e.watched.live[c.job] = p
	e.watched.mu.Unlock()
	return func() {
		p.end()
		if e.cfg.Spool != nil {
			if err := e.cfg.Spool.put(p.ask(context.WithoutCancel(ctx), muster.OutputAsk{})); err != nil {
				e.cfg.Log.Warn("output cannot be kept", "job", c.job, "error", err)
			}
		}
		e.watched.mu.Lock()
		defer e.watched.mu.Unlock()
		if e.watched.live[c.job] == p {
			delete(e.watched.live, c.job)
		}
	}
}

// Output returns what a job's program printed here, or prints: NotFound with
// code no_output if nothing is known of it. It is for those who may run the
// action.
func (e *Executor) Output(ctx context.Context, by muster.Rights, a muster.OutputAsk) (muster.Output, error) {
	e.watched.mu.Lock()
	p := e.watched.live[a.Job]
	e.watched.mu.Unlock()
	var out muster.Output
	switch {
	case p != nil:
		if err := mayRun(by, p.action); err != nil {
			return out, err
		}
		return p.ask(ctx, a), nil
	case e.cfg.Spool == nil:
		return out, noOutput()
	}
	out, err := e.cfg.Spool.output(a.Job)
	if err == nil {
		err = mayRun(by, out.Action)
	}
	if err != nil {
		return muster.Output{}, err
	}
	return behind(out, a), nil
}
