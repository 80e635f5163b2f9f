package main

import (
	"reflect"
	"time"

	"cmmpd/storage"
)

// storeConfig says where the mail is and how its files are looked after.
type storeConfig struct {
	Path             string   `toml:"path"`
	Reserve          size     `toml:"reserve" bounds:"1MiB,1024GiB"`
	CompactBelow     int      `toml:"compact-below" bounds:"10,90"`
	HousekeepingRate size     `toml:"housekeeping-rate" bounds:"64KiB,100GiB"`
	KeepExpunges     int      `toml:"keep-expunges" bounds:"100,1000000"`
	ScrubEvery       duration `toml:"scrub-every" bounds:"1h,8760h"`
	KeepMessageIDs   duration `toml:"keep-message-ids" bounds:"24h,87600h"`
	RecoverableDays  int      `toml:"recoverable-days" bounds:"0,3650"`
	RecoverableSize  size     `toml:"recoverable-size" bounds:"1KiB,1048576GiB"`
}

func defaultStore() storeConfig {
	o := storage.Defaults()
	return storeConfig{
		Reserve: size(o.Reserve), CompactBelow: o.CompactBelow, HousekeepingRate: size(o.HouseRate), KeepExpunges: o.KeepExpunges,
		KeepMessageIDs: duration(o.KeepMessageIDs), ScrubEvery: duration(o.ScrubEvery),
		RecoverableDays: 14, RecoverableSize: size(o.RecoverBytes),
	}
}

func (c *storeConfig) check(f *tomlFile) {
	f.resolve("store.path", &c.Path)
	checkBounds(f, "store", reflect.ValueOf(c).Elem())
}

// options adds to o what the configuration says.
func (c *storeConfig) options(o storage.Options) storage.Options {
	o.Dir, o.Reserve, o.CompactBelow, o.HouseRate = c.Path, int64(c.Reserve), c.CompactBelow, int64(c.HousekeepingRate)
	o.KeepExpunges, o.KeepMessageIDs = c.KeepExpunges, time.Duration(c.KeepMessageIDs)
	o.ScrubEvery = time.Duration(c.ScrubEvery)
	o.Recover, o.RecoverBytes = time.Duration(c.RecoverableDays)*24*time.Hour, int64(c.RecoverableSize)
	if c.RecoverableDays == 0 {
		o.Recover = -1
	}
	return o
}
