package faulty

import (
	"net/http"
	"strings"
)

// Endpoint names an endpoint of the protocol.
type Endpoint string

// The endpoints. Any stands for all of them, Other for requests of no endpoint of the protocol.
const (
	Any            Endpoint = ""
	Capabilities   Endpoint = "capabilities"
	Connect        Endpoint = "connect"
	CreatePush     Endpoint = "create push"
	PushChunk      Endpoint = "push chunk"
	CommitPush     Endpoint = "commit push"
	DeletePush     Endpoint = "delete push"
	CommittedRows  Endpoint = "committed rows"
	Pull           Endpoint = "pull"
	CreateSnapshot Endpoint = "create snapshot"
	SnapshotPage   Endpoint = "snapshot page"
	DeleteSnapshot Endpoint = "delete snapshot"
	Watch          Endpoint = "watch"
	Other          Endpoint = "other"
)

// EndpointOf tells to which endpoint a request goes. A prefix of the path does not matter.
func EndpointOf(r *http.Request) Endpoint {
	_, path, found := strings.Cut(r.URL.Path, "/sync/")
	if !found {
		return Other
	}
	collection, rest, inside := strings.Cut(path, "/")
	remove := r.Method == http.MethodDelete
	switch {
	case path == "capabilities":
		return Capabilities
	case path == "connect":
		return Connect
	case path == "pull":
		return Pull
	case path == "watch":
		return Watch
	case collection == "push-sessions" && !inside:
		return CreatePush
	case collection == "push-sessions" && remove:
		return DeletePush
	case collection == "push-sessions" && strings.HasSuffix(rest, "/chunks"):
		return PushChunk
	case collection == "push-sessions" && strings.HasSuffix(rest, "/commit"):
		return CommitPush
	case collection == "committed-bundles" && strings.HasSuffix(rest, "/rows"):
		return CommittedRows
	case collection == "snapshot-sessions" && !inside:
		return CreateSnapshot
	case collection == "snapshot-sessions" && remove:
		return DeleteSnapshot
	case collection == "snapshot-sessions":
		return SnapshotPage
	default:
		return Other
	}
}
