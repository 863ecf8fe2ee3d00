package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/journal"
	"muster/httpserver/api"
)

// jobsTime is how long a node may take to list its jobs.
const jobsTime = 2 * time.Second

// everyJob lists the jobs of all other agents. Missing are the slugs of those
// that gave none in time.
func everyJob(self string, nodes actions.Nodes, out *wire) func(context.Context, api.JobFilter) ([]api.Jobs, []string) {
	return func(ctx context.Context, f api.JobFilter) (lists []api.Jobs, missing []string) {
		ctx, cancel := context.WithTimeout(ctx, jobsTime)
		defer cancel()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, n := range nodes.Nodes() {
			if n.ID == self || n.DeletedAt != nil || n.Kind != muster.KindAgent || n.Observed == muster.ObservedLeft {
				continue
			}
			wg.Go(func() {
				page, err := out.at(n, muster.RightsOf(ctx)).OwnJobs(ctx, f)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					missing = append(missing, n.Slug)
					return
				}
				lists = append(lists, page)
			})
		}
		wg.Wait()
		slices.Sort(missing)
		return lists, missing
	}
}

// outcomes are those that this node's journal has, and those of others.
type outcomes struct {
	self string
	book *journal.Journal
	wire *wire
}

// Outcome is what a node's journal has of a job that this node leads.
func (o outcomes) Outcome(ctx context.Context, n muster.Node, job string) (muster.Outcome, error) {
	switch {
	case n.ID == o.self:
		return o.book.Outcome(job)
	case n.Kind == muster.KindExternal:
		return muster.Outcome{}, muster.Errorf(muster.Unsupported, "the node protocol has no word for what became of an action")
	default:
		return o.wire.at(n, o.wire.self()).Outcome(ctx, job)
	}
}
