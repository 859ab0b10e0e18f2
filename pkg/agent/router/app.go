package router

import "time"

// recheckEvery is how often an app whose connection has ended is dialed to see whether it
// is still there, while handlers answer.
const recheckEvery = time.Second

// leaveApp notes that a handler is asked from now on, unless the app has spoken or ended
// before. What the app then says on its idle connection, or that it ends it, is not for
// the client: it would not have happened without the handler.
func (r *relay) leaveApp() (why Opacity, ended bool) {
	r.state.Lock()
	defer r.state.Unlock()
	r.handlerLast = !r.ending && r.app.unasked == ""
	return r.app.unasked, r.ending
}

// askApp returns the app's connection, a new one when it has ended while handlers
// answered. It expects the answer to ex from it, if ex is not nil. The error is errEnded
// where the client is to see that the app has ended.
func (r *relay) askApp(ex *exchange) (*upstream, error) {
	for {
		app, done, err := r.tryApp(ex)
		if done || err != nil {
			return app, err
		}
		<-app.ended // it may have been replaced in its end
		if r.currentApp() != app {
			continue
		}
		conn, err := r.cfg.DialApp(r.ctx)
		if err != nil {
			r.cfg.Log.Debug("the app is not there any more", "err", err)
			return nil, errEnded
		}
		app.close()
		r.lastApp() // what a new connection says first is for the client
		next := r.follow(conn, true)
		r.state.Lock()
		r.app, r.refused = next, time.Time{}
		r.state.Unlock()
	}
}

// tryApp is askApp with the connection that there is; done is false if it has ended.
func (r *relay) tryApp(ex *exchange) (app *upstream, done bool, err error) {
	r.state.Lock()
	defer r.state.Unlock()
	switch {
	case !r.app.gone:
		r.handlerLast = false
		if ex != nil {
			r.app.expectLocked(ex)
		}
		return r.app, true, nil
	case r.ending:
		return nil, false, errEnded
	}
	return r.app, false, nil
}

// lastApp returns the app's connection, which is not replaced any more when it ends.
func (r *relay) lastApp() *upstream {
	r.state.Lock()
	defer r.state.Unlock()
	r.handlerLast = false
	return r.app
}

func (r *relay) currentApp() *upstream {
	r.state.Lock()
	defer r.state.Unlock()
	return r.app
}

// replace is the end of the app's connection while handlers answer. A new one takes its
// place, whose end tells when the app does: once, as to some apps each connection is a
// worker that waits. After that checkApp tells.
func (r *relay) replace(old *upstream) {
	_ = old.conn.Close()
	r.untrack(old.conn)
	if !r.mayRedial(old) {
		return
	}
	conn, err := r.cfg.DialApp(r.ctx)
	r.state.Lock()
	defer r.state.Unlock()
	switch {
	case err != nil:
		r.refused = time.Now()
	case r.handlerLast:
		r.app = r.follow(conn, true)
	default:
		_ = conn.Close()
	}
	r.wakeLocked()
}

// mayRedial notes a redial, unless the connection before was of no use.
func (r *relay) mayRedial(old *upstream) bool {
	r.state.Lock()
	defer r.state.Unlock()
	if !old.asked && !r.redialed.IsZero() {
		return false
	}
	r.redialed = time.Now()
	return true
}

// checkApp dials an app whose connection has ended, unless that was done a moment ago. If
// the app refuses, its pod is ending: the client is told so with its next answer, or by a
// FIN when it is idle.
func (r *relay) checkApp() {
	r.state.Lock()
	due := r.app.gone && r.refused.IsZero() && time.Since(r.redialed) >= recheckEvery
	r.state.Unlock()
	if !due {
		return
	}
	conn, err := r.cfg.DialApp(r.ctx)
	if err == nil {
		_ = conn.Close()
	}
	r.state.Lock()
	defer r.state.Unlock()
	if r.redialed = time.Now(); err != nil {
		r.refused = r.redialed
	}
}

// appRefuses reports whether the app ends its connections, and the client is to know.
func (r *relay) appRefuses() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return !r.refused.IsZero()
}
