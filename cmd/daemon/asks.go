package daemon

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"muster"
	"muster/httpserver/api"
)

// asks has nodes asked for their actions once for all who ask at the same time for
// the same ones, in the name of the same caller. Nobody gets what was asked before:
// who comes while a call is under way waits for the next.
type asks struct {
	mu    sync.Mutex
	lines map[string][]*ask // guarded by mu; by whom, what and in whose name: the call under way, then the next
}

// ask is one call.
type ask struct {
	done chan struct{} // closed when the others are set
	list api.Actions
	err  error
	late bool // it was not made: who was to make it could not wait for its turn
}

// of asks a node for the named actions, on behalf of a caller.
func (s *asks) of(ctx context.Context, n muster.Node, by muster.Rights, names []string, call func(context.Context, []string) (api.Actions, error)) (api.Actions, error) {
	rights, err := json.Marshal(by)
	if err != nil {
		return api.Actions{}, muster.Errorf(muster.Internal, "encode rights: %w", err)
	}
	key := n.ID + " " + strings.Join(names, ",") + " " + string(rights)
	for {
		a, before, mine := s.join(key)
		if !mine {
			select {
			case <-a.done:
			case <-ctx.Done():
				return api.Actions{}, context.Cause(ctx)
			}
			if a.late {
				continue
			}
			return a.list, a.err
		}
		defer s.leave(key, a)
		if before != nil {
			select {
			case <-before:
			case <-ctx.Done():
				a.late = true
				return api.Actions{}, context.Cause(ctx)
			}
		}
		a.list, a.err = call(ctx, names)
		return a.list, a.err
	}
}

// join returns the next call, and whether the caller is to make it: when before is
// closed, if it is not nil.
func (s *asks) join(key string) (a *ask, before <-chan struct{}, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[string][]*ask{}
	}
	line := s.lines[key]
	if len(line) > 1 {
		return line[1], nil, false
	}
	if len(line) > 0 {
		before = line[0].done
	}
	a = &ask{done: make(chan struct{})}
	s.lines[key] = append(line, a)
	return a, before, true
}

// leave ends a call.
func (s *asks) leave(key string, a *ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(a.done)
	line := slices.DeleteFunc(s.lines[key], func(other *ask) bool { return other == a })
	if len(line) == 0 {
		delete(s.lines, key)
		return
	}
	s.lines[key] = line
}
