package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// BenchmarkOpenVault opens a vault of 100,000 accounts with five epochs each, and says how much memory it holds then.
func BenchmarkOpenVault(b *testing.B) {
	path := filepath.Join(b.TempDir(), "vault")
	w := &rewriting{Vault: Vault{accounts: make(map[mail.AccountID]*vaultEntry)}}
	head := vaultHeader(testStore)
	seed, _, err := checkVaultHeader(head, testStore)
	if err != nil {
		b.Fatal(err)
	}
	w.seed, w.buf = seed, head
	public, wrapped, sealed := make([]byte, 65), make([]byte, 60), make([]byte, 113)
	for epoch := range uint32(6) {
		for i := range 100_000 {
			r := &vaultRecord{kind: vaultEpoch, id: mail.AccountID(fmt.Sprintf("%08x-1111-4111-8111-111111111111", i)), epoch: epoch, sealed: sealed}
			if epoch == 0 {
				r.kind, r.key = vaultAccount, AccountKey{suiteP256, public, PlatformKey, wrapped}
			}
			w.buf = append(w.buf, r.encode(seed, 0)...)
		}
	}
	if err := os.WriteFile(path, w.buf, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(w.buf)))
	w = nil
	b.ReportAllocs()
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		v, err := OpenVault(durable.OS{}, path, testStore)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-held")
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
