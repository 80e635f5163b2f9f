package audit

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// The disk is full when checkpoint.cosigned is written, at each step of it: the log stays good and takes records, and
// what witnesses have cosigned is written once there is room.
func TestDiskFullWhileCosigned(t *testing.T) {
	for _, op := range []string{"create " + newCosigned, "write " + newCosigned, "sync " + newCosigned, "rename " + cosignedFile} {
		for what, cause := range map[string]error{"before": errors.Join(errLost, syscall.ENOSPC), "after": syscall.ENOSPC} {
			t.Run(op+", "+what, func(t *testing.T) {
				var full atomic.Bool
				var failed atomic.Int64
				o := testOptions()
				o.disk = func(d disk) disk {
					m := newModelDisk(d, nil)
					m.before = func(now string) error {
						if !full.Load() || now != op {
							return nil
						}
						failed.Add(1)
						return cause
					}
					return m
				}
				l, dir := newLog(t, o)
				mustRecord(t, l, 10)
				peers, known := witnessPeers(newWitness(t, "w1", nil))
				ws := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1}))
				defer ws.Close()
				until(t, "cosigned", func() bool { return onDisk(dir) == l.Size() })
				good := func(behind int64) {
					t.Helper()
					r, err := VerifyDemand(context.Background(), dir, testPub(t), Demand{Witnesses: known, Need: 1, Behind: behind})
					if err != nil || r.Records != l.Size() {
						t.Errorf("%+v, %v", r, err)
					}
				}
				full.Store(true)
				mustRecord(t, l, 10)
				until(t, "the disk was full", func() bool { return failed.Load() > 0 })
				good(-1)
				mustRecord(t, l, 10)
				full.Store(false)
				mustRecord(t, l, 1)
				until(t, "cosigned again", func() bool { return onDisk(dir) == l.Size() })
				ws.Close()
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				good(0)
				if left, err := filepath.Glob(filepath.Join(dir, newCosigned)); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			})
		}
	}
}
