package cluster

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

var errRefused = errors.New("a request before it was refused")

// pipeline is a raft pipeline that ends with the first refusal. Raft's own has no
// reader from then on, while its writer may wait for one for ever: that follower
// gets heartbeats and no entries until the next election
// (github.com/hashicorp/raft/issues/612).
type pipeline struct {
	raft.AppendPipeline

	answers chan raft.AppendFuture // up to the first that is no success
	refused chan struct{}          // closed with that one
	over    chan struct{}          // closed by Close
	once    sync.Once
	pass    sync.WaitGroup
}

// AppendEntriesPipeline opens a pipeline to a peer.
func (c *contacts) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := c.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), refused: make(chan struct{}), over: make(chan struct{})}
	p.pass.Go(p.read)
	return p, nil
}

// read passes answers on, and drops those that come after a refusal: nobody
// waits for them, but the writer waits until they are read.
func (p *pipeline) read() {
	told := false
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			if told {
				continue
			}
			if !answer.Response().Success {
				told = true
				close(p.refused)
			}
			select {
			case p.answers <- answer:
			case <-p.over:
				return
			}
		case <-p.over:
			return
		}
	}
}

// AppendEntries sends a request, unless one before it was refused.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.refused:
		return nil, errRefused
	default:
		return p.AppendPipeline.AppendEntries(args, resp)
	}
}

// Consumer gives the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends the pipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.over) })
	p.pass.Wait()
	return p.AppendPipeline.Close()
}
