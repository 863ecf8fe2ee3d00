package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/actions"
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
