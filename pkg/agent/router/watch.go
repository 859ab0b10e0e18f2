package router

import (
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
)

// Exchange is a request and its answer, as far as they were seen.
type Exchange = h2.Exchange

// watch begins the exchange of a request if somebody watches.
func (r *relay) watch(req *request) {
	if r.cfg.Watch == nil {
		return
	}
	if req.seen = r.cfg.Watch(); req.seen != nil {
		req.exchange = req.begin()
	}
}

// begin returns what the head of a request tells.
func (r *request) begin() *Exchange {
	e := &Exchange{Begin: time.Now(), Protocol: "HTTP/1." + string(r.minor), Method: h2.Clip(r.method), Path: h2.Clip(r.target)}
	if hosts := r.values("Host"); len(hosts) > 0 {
		e.Host = h2.Clip(hosts[0])
	}
	return e
}

// refused ends the exchange of a request that nobody takes.
func (r *request) refused(taker Taker) {
	if e := r.exchange; e != nil {
		r.exchange = nil
		e.Status, e.Taker, e.Took, e.Failure = 503, taker, time.Since(e.Begin), h2.NobodyAnswers
		r.seen(*e)
	}
}

// instead notes that the app is to answer, and why who took the request does not.
func (r *request) instead(taker Taker, why error) {
	if e := r.exchange; e != nil {
		e.Meant, e.Instead = taker, why.Error()
	}
}

// untold ends the exchange of a request that was passed on, but not followed.
func (r *request) untold(err error) {
	e := r.exchange
	if e == nil {
		return
	}
	r.exchange = nil
	e.Took, e.Failure = time.Since(e.Begin), "its answer was not followed"
	if err != nil {
		e.Failure = err.Error()
	}
	r.seen(*e)
}

// watched ends the exchange of a request.
func (r *request) watched(up *upstream, ex *exchange, err error) {
	e := r.exchange
	if e == nil {
		return
	}
	r.exchange = nil
	if ex.over() {
		e.Status, e.Got = ex.status, ex.got
	}
	if up.taker != nil {
		e.Taker = up.taker
	}
	if err != nil {
		e.Failure = err.Error()
	}
	e.Took = time.Since(e.Begin)
	r.seen(*e)
}
