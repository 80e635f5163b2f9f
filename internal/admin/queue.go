package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/queue"
	"cmmpd/storage"
)

// Queue is the mail on its way to other domains: queue.Queue.
type Queue interface {
	List(ctx context.Context, f func(queue.Listing) error) error
	Hold(ctx context.Context, id storage.QueueID) error
	Release(ctx context.Context, id storage.QueueID) error
	Retry(ctx context.Context, id storage.QueueID) error
	Remove(ctx context.Context, id storage.QueueID) error
}

// QueueAct is something to be done to items of the queue.
type QueueAct string

// The acts.
const (
	QueueHold    QueueAct = "hold"    // keep back
	QueueRelease QueueAct = "release" // let go what is held
	QueueRetry   QueueAct = "retry"   // try now
	QueueRemove  QueueAct = "remove"  // take out undelivered; the sender is not told
)

// AllItems stands for every item of the queue.
const AllItems = "all"

// event and do are the act's audit event and what it does; do is nil if there is no such act.
func (a QueueAct) event(q Queue) (event string, do func(context.Context, storage.QueueID) error) {
	switch a {
	case QueueHold:
		return audit.QueueHold, q.Hold
	case QueueRelease:
		return audit.QueueRelease, q.Release
	case QueueRetry:
		return audit.QueueRetry, q.Retry
	case QueueRemove:
		return audit.QueueRemove, q.Remove
	}
	return "", nil
}

// QueueList shows the queue to f: who writes to whom, what was tried and when; nothing of a message. Whoever may use the
// socket may ask.
func (s *Service) QueueList(ctx context.Context, who Caller, f func(queue.Listing) error) error {
	act, err := s.begin(ctx, audit.QueueList, "", who)
	if err != nil {
		return err
	}
	q, err := s.o.Queue(ctx)
	if err == nil {
		err = q.List(ctx, f)
	}
	return s.end(ctx, act, err)
}

// QueueChange does an act to items, by their names, or to AllItems, and returns to how many. Each is on record. Whoever
// may use the socket may do what loses nothing; QueueRemove needs the role admin.
func (s *Service) QueueChange(ctx context.Context, who Caller, a QueueAct, items []string) (done int, err error) {
	q, err := s.o.Queue(ctx)
	if err != nil {
		return 0, err
	}
	event, do := a.event(q)
	if do == nil {
		return 0, mail.E(mail.Invalid, "there is no such act", nil)
	}
	actor := ""
	if a == QueueRemove {
		if actor, err = s.authorize(ctx, who, RoleAdmin); err != nil {
			return 0, err
		}
	}
	ids, all, err := queueIDs(ctx, q, items)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		act, err := s.beginOn(ctx, event, actor, id.String(), who)
		if err != nil {
			return done, err
		}
		switch err := s.end(ctx, act, do(ctx, id)); {
		case err == nil:
			done++
		case all && mail.KindOf(err) == mail.NotFound: // delivered meanwhile
		default:
			return done, fmt.Errorf("%v: %w", id, err)
		}
	}
	return done, nil
}

func queueIDs(ctx context.Context, q Queue, items []string) (ids []storage.QueueID, all bool, err error) {
	if len(items) == 1 && items[0] == AllItems {
		err := q.List(ctx, func(l queue.Listing) error {
			id, err := storage.ParseQueueID(l.Item)
			ids = append(ids, id)
			return err
		})
		return ids, true, err
	}
	for _, item := range items {
		id, err := storage.ParseQueueID(item)
		if err != nil {
			return nil, false, mail.E(mail.Invalid, item+" is not the name of a queue item", nil)
		}
		ids = append(ids, id)
	}
	return ids, false, nil
}

func (s *Server) queueList(w http.ResponseWriter, r *http.Request, who Caller) error {
	out := json.NewEncoder(w)
	return s.service.QueueList(r.Context(), who, func(l queue.Listing) error { return out.Encode(l) })
}

// changed is the answer to a change of the queue.
type changed struct {
	Done int `json:"done"`
}

func (s *Server) queueChange(w http.ResponseWriter, r *http.Request, who Caller) error {
	if err := r.ParseForm(); err != nil {
		return mail.E(mail.Invalid, "", err)
	}
	n, err := s.service.QueueChange(r.Context(), who, QueueAct(r.FormValue("act")), r.Form["item"])
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(changed{n})
}

// QueueList is Service.QueueList.
func (c *Client) QueueList(ctx context.Context, f func(queue.Listing) error) error {
	return c.do(ctx, pathQueueList, nil, nil, func(r io.Reader) error {
		for in := json.NewDecoder(r); ; {
			var l queue.Listing
			if err := in.Decode(&l); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := f(l); err != nil {
				return err
			}
		}
	})
}

// QueueChange is Service.QueueChange.
func (c *Client) QueueChange(ctx context.Context, a QueueAct, items []string) (int, error) {
	var res changed
	err := c.do(ctx, pathQueueChange, url.Values{"act": {string(a)}, "item": items}, nil, func(r io.Reader) error { return json.NewDecoder(r).Decode(&res) })
	return res.Done, err
}
