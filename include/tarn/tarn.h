/* tarn/tarn.h - everything. */
#ifndef TARN_TARN_H_
#define TARN_TARN_H_

#include "tarn/attrs.h"
#include "tarn/barrier.h"
#include "tarn/chan.h"
#include "tarn/control.h"
#include "tarn/defs.h"
#include "tarn/events.h"
#include "tarn/final.h"
#include "tarn/gc.h"
#include "tarn/handle.h"
#include "tarn/heap.h"
#include "tarn/memory.h"
#include "tarn/native.h"
#include "tarn/options.h"
#include "tarn/preempt.h"
#include "tarn/profile.h"
#include "tarn/sched.h"
#include "tarn/sync.h"
#include "tarn/trace.h"
#include "tarn/unsafe.h"
#include "tarn/walk.h"
#include "tarn/weak.h"

#endif
