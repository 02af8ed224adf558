// Package otelmetrics tells OpenTelemetry what oversqlite's engines do. It is a module of its own, so that an application
// that does not use OpenTelemetry does not get it:
//
//	metrics, err := otelmetrics.New(otel.GetMeterProvider())
//	…
//	engine, err := oversqlite.New(oversqlite.Config{ …, Metrics: metrics})
//
// One Metrics serves all engines of a process. No instrument has an attribute that tells whose data it is, and the values of
// all attributes are of small fixed sets: see the constants.
package otelmetrics

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/oversqlite/oversqlite"
)

// Scope is the name of the instrumentation scope.
const Scope = "github.com/oversqlite/oversqlite"

// The instruments. Durations are in seconds.
const (
	RequestDuration = "oversqlite.request.duration" // histogram, by operation and class
	RequestSent     = "oversqlite.request.sent"     // counter of bytes of bodies, by operation
	RequestReceived = "oversqlite.request.received" // counter of bytes of bodies, by operation
	Rows            = "oversqlite.rows"             // counter, by way
	Bundles         = "oversqlite.bundles"          // counter, by way
	BackoffDelay    = "oversqlite.backoff.delay"    // histogram, by operation
	Conflicts       = "oversqlite.conflicts"        // counter, by resolution
	Quarantined     = "oversqlite.quarantined"      // counter of rows, by origin
	PendingRows     = "oversqlite.pending.rows"     // up-down counter: rows that wait in all engines together
	QueueAge        = "oversqlite.queue.age"        // histogram: how long the oldest waiting row of an engine has been waiting, at each look
	RunDuration     = "oversqlite.run.duration"     // histogram, by verb and outcome
	Engines         = "oversqlite.engines"          // up-down counter: engines by phase
)

// The attributes.
const (
	Operation  = "operation"  // a request or a local transaction
	Class      = "class"      // "ok", or what a failure means
	WayKey     = "way"        // "pushed", "pulled", "snapshot", "applied"
	Resolution = "resolution" // "accept_server", "keep_local", "keep_merged"
	Origin     = "origin"     // "server", "value", "collision", "dependency"
	Verb       = "verb"       // what was called
	Outcome    = "outcome"    // how it ended
	Phase      = "phase"      // what an engine is doing
)

// Boundaries of the histograms, in seconds. Requests and runs take from milliseconds to minutes, delays and waiting rows up to days.
var (
	shortBoundaries = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	longBoundaries  = []float64{.1, .5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600}
)

// New returns metrics that record to a provider.
func New(provider metric.MeterProvider) (*oversqlite.Metrics, error) {
	var errs []error
	meter := provider.Meter(Scope)
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	level := func(name, unit, description string) metric.Int64UpDownCounter {
		c, err := meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, description string, boundaries []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(boundaries...))
		errs = append(errs, err)
		return h
	}
	var (
		requests    = seconds(RequestDuration, "Requests to the server.", shortBoundaries)
		sent        = counter(RequestSent, "By", "Bytes of the bodies of requests.")
		received    = counter(RequestReceived, "By", "Bytes of the bodies of answers.")
		rows        = counter(Rows, "{row}", "Rows on their way.")
		bundles     = counter(Bundles, "{bundle}", "Bundles on their way.")
		delays      = seconds(BackoffDelay, "Delays before something that failed is repeated.", longBoundaries)
		conflicts   = counter(Conflicts, "{conflict}", "Conflicts that were settled.")
		quarantined = counter(Quarantined, "{row}", "Rows that were set aside.")
		pending     = level(PendingRows, "{row}", "Rows that the server does not have.")
		age         = seconds(QueueAge, "How long the oldest waiting row of an engine has been waiting.", longBoundaries)
		runs        = seconds(RunDuration, "Calls, and runs of the engines' own.", shortBoundaries)
		engines     = level(Engines, "{engine}", "Engines by phase.")
	)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	ctx := context.Background() // what is measured belongs to no request of the application's
	var by labels
	return &oversqlite.Metrics{
		Request: func(r oversqlite.RequestDone) {
			requests.Record(ctx, r.Took.Seconds(), by.two(Operation, r.Operation, Class, r.Class))
			sent.Add(ctx, r.Sent, by.one(Operation, r.Operation))
			received.Add(ctx, r.Received, by.one(Operation, r.Operation))
		},
		Rows:    func(w oversqlite.Way, n int64) { rows.Add(ctx, n, by.one(WayKey, string(w))) },
		Bundles: func(w oversqlite.Way, n int64) { bundles.Add(ctx, n, by.one(WayKey, string(w))) },
		Backoff: func(b oversqlite.BackoffDelay) {
			delays.Record(ctx, b.Delay.Seconds(), by.one(Operation, b.Operation))
		},
		Conflict:    func(resolution string) { conflicts.Add(ctx, 1, by.one(Resolution, resolution)) },
		Quarantined: func(origin string, n int64) { quarantined.Add(ctx, n, by.one(Origin, origin)) },
		Pending: func(p oversqlite.PendingWork) {
			pending.Add(ctx, p.Change)
			age.Record(ctx, p.OldestAge.Seconds())
		},
		Run: func(r oversqlite.RunDone) {
			runs.Record(ctx, r.Took.Seconds(), by.two(Verb, r.Verb, Outcome, string(r.Outcome)))
		},
		Phase: func(from, to oversqlite.Phase) {
			if from != "" {
				engines.Add(ctx, -1, by.one(Phase, string(from)))
			}
			if to != "" {
				engines.Add(ctx, 1, by.one(Phase, string(to)))
			}
		},
	}, nil
}

// labels keeps the sets of attributes that have been used: there are few, and making one costs several allocations.
type labels struct {
	sets sync.Map // [4]string to metric.MeasurementOption
}

func (l *labels) one(key, value string) metric.MeasurementOption { return l.two(key, value, "", "") }

func (l *labels) two(key, value, key2, value2 string) metric.MeasurementOption {
	id := [4]string{key, value, key2, value2}
	if known, ok := l.sets.Load(id); ok {
		return known.(metric.MeasurementOption)
	}
	attributes := []attribute.KeyValue{attribute.String(key, value)}
	if key2 != "" {
		attributes = append(attributes, attribute.String(key2, value2))
	}
	made := metric.WithAttributeSet(attribute.NewSet(attributes...))
	l.sets.Store(id, made)
	return made
}
