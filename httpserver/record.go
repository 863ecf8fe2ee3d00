package httpserver

import (
	"encoding/json"
	"slices"
	"strconv"

	"muster"
	"muster/httpserver/api"
)

// The limits of a node's record, in bytes.
const (
	maxText          = 255
	maxVersion       = 64
	maxDescription   = 4 << 10
	maxMetadataDepth = 8
	maxWeight        = 1000
)

// node checks the fields of a node's record that a request gives.
func (c complaints) node(n muster.NodeChange) {
	if n.Name != nil {
		c.name(*n.Name)
	}
	if n.Slug != nil {
		c.when(!muster.ValidSlug(*n.Slug), "slug", "must be lower-case letters, digits and single dashes, at most 63")
	}
	if n.Type != nil {
		c.when(*n.Type == muster.TypeMaster, "type", "the cluster elects the master")
		c.when(*n.Type != muster.TypeMaster && *n.Type != muster.TypeChild, "type", "must be child")
	}
	if n.URL != nil {
		reason := badURL(*n.URL)
		c.when(reason != "", "url", reason)
	}
	if n.Capabilities != nil {
		c.capabilities(*n.Capabilities)
	}
	if n.Weight != nil {
		c.when(*n.Weight < 1 || *n.Weight > maxWeight, "weight", "must be from 1 to 1000")
	}
	if n.Status != nil {
		c.when(*n.Status == muster.StatusError, "status", "error follows from pings: say active, inactive or maintenance")
		settable := []muster.Status{muster.StatusError, muster.StatusActive, muster.StatusInactive, muster.StatusMaintenance}
		c.when(!slices.Contains(settable, *n.Status), "status", "must be active, inactive or maintenance")
	}
	c.optional("version", n.Version, maxVersion)
	c.optional("description", n.Description, maxDescription)
	c.optional("replica_of", n.ReplicaOf, maxText)
	c.metadata(n.Metadata)
}

func (c complaints) optional(field string, text *string, limit int) {
	if text != nil {
		c.text(field, *text, limit)
	}
}

func (c complaints) capabilities(words []muster.Capability) {
	for i, w := range words {
		c.when(!w.Valid(), "capabilities", strconv.Quote(string(w))+" is not lower-case letters, digits and single dashes, at most 63")
		c.when(slices.Contains(words[:i], w), "capabilities", strconv.Quote(string(w))+" is there twice")
	}
}

func (c complaints) metadata(m muster.Metadata) {
	raw, err := json.Marshal(m)
	c.when(err != nil || len(raw) > muster.MaxMetadata, "metadata", "must be at most 16 KiB")
	c.when(api.Deeper(raw, maxMetadataDepth), "metadata", "must nest at most 8 deep")
	for key := range m {
		c.when(key == "", "metadata", "a key must not be empty")
		c.text("metadata", key, maxText)
	}
}
