package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster"
)

// tell shows all that people may want to know of a node; what it is without is
// left out.
func tell(w *grid, n muster.Node) {
	line(w, "ID", n.ID)
	line(w, "Name", n.Name)
	line(w, "Slug", n.Slug)
	line(w, "Type", n.Type)
	line(w, "Kind", n.Kind)
	line(w, "Status", n.Status)
	line(w, "Healthy", n.Healthy)
	line(w, "URL", n.URL)
	line(w, "Version", n.Version)
	line(w, "Capabilities", spaced(n.Capabilities))
	if n.Description != "" {
		line(w, "Description", plain(n.Description))
	}
	for _, key := range slices.Sorted(maps.Keys(n.Metadata)) {
		line(w, "Metadata", flat(key)+"="+plain(string(n.Metadata[key])))
	}
	line(w, "Weight", n.Weight)
	if n.ReplicaOf != "" {
		line(w, "Replica of", plain(n.ReplicaOf))
	}
	if n.Role != nil {
		line(w, "Role", *n.Role)
	}
	line(w, "Created", clock(n.CreatedAt))
	line(w, "Changed", clock(n.UpdatedAt))
	if n.LastPingAt != nil {
		line(w, "Last seen", clock(*n.LastPingAt))
	}
	if n.AvgResponseTime != nil {
		line(w, "Answers in", fmt.Sprintf("%.1f ms", *n.AvgResponseTime))
	}
	if n.PingFailures > 0 {
		line(w, "Failed pings", n.PingFailures)
	}
	if n.Circuit != nil {
		line(w, "Circuit", n.Circuit.State)
	}
	line(w, "Index", n.Index)
}

func spaced[T ~string](words []T) string {
	return strings.Trim(fmt.Sprint(words), "[]")
}
