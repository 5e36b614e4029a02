; Functions of a language with objects, as its front end would hand them to LLVM:
; copying stacks ("split-stack"), pointers to objects in address space 1. opt's
; pass rewrite-statepoints-for-gc makes statepoints of the calls; in dead_and_live
; they are written out, as the pass or the front end itself writes them.
;
; An object is { i64 value, object *left, *right }. The functions in C are in
; stackmaps.c.

declare i8 addrspace(1)* @new_object(i64)
declare void @link_objects(i8 addrspace(1)*, i8 addrspace(1)*, i8 addrspace(1)*)
declare void @use_object(i8 addrspace(1)*)
declare void @pause_here(i64)
declare i64 @eighth(i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)
declare i64 @value_through(i8 addrspace(1)*)

; While a call is under way that needs b, of a there is only what was left in its
; slot. The second half is the same with a live.
define i64 @dead_and_live(i64 %id) "split-stack" gc "statepoint-example" {
  %t1 = call token (i64, i32, i8 addrspace(1)* (i64)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_p1i8i64f(i64 1, i32 0,
      i8 addrspace(1)* (i64)* elementtype(i8 addrspace(1)* (i64)) @new_object,
      i32 1, i32 0, i64 %id, i32 0, i32 0)
  %a = call i8 addrspace(1)* @llvm.experimental.gc.result.p1i8(token %t1)
  %id2 = add i64 %id, 1
  %t2 = call token (i64, i32, i8 addrspace(1)* (i64)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_p1i8i64f(i64 2, i32 0,
      i8 addrspace(1)* (i64)* elementtype(i8 addrspace(1)* (i64)) @new_object,
      i32 1, i32 0, i64 %id2, i32 0, i32 0)
      [ "gc-live"(i8 addrspace(1)* %a) ]
  %b = call i8 addrspace(1)* @llvm.experimental.gc.result.p1i8(token %t2)
  %a2 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t2, i32 0, i32 0)
  %t3 = call token (i64, i32, void (i8 addrspace(1)*)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_isVoidp1i8f(i64 3, i32 0,
      void (i8 addrspace(1)*)* elementtype(void (i8 addrspace(1)*)) @use_object,
      i32 1, i32 0, i8 addrspace(1)* %a2, i32 0, i32 0)
      [ "gc-live"(i8 addrspace(1)* %a2, i8 addrspace(1)* %b) ]
  %a3 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t3, i32 0, i32 0)
  %b3 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t3, i32 1, i32 1)
  ; no a from here on
  %t4 = call token (i64, i32, void (i64)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_isVoidi64f(i64 4, i32 0,
      void (i64)* elementtype(void (i64)) @pause_here, i32 1, i32 0, i64 %id, i32 0, i32 0)
      [ "gc-live"(i8 addrspace(1)* %b3) ]
  %b4 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t4, i32 0, i32 0)
  %p = bitcast i8 addrspace(1)* %b4 to i64 addrspace(1)*
  %v = load i64, i64 addrspace(1)* %p
  ret i64 %v
}

; A list of n objects with the values n - 1 to 0: a loop.
define i8 addrspace(1)* @build(i64 %n) "split-stack" gc "statepoint-example" {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i2, %more ]
  %list = phi i8 addrspace(1)* [ null, %entry ], [ %object, %more ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %done, label %more
more:
  %object = call i8 addrspace(1)* @new_object(i64 %i)
  call void @link_objects(i8 addrspace(1)* %object, i8 addrspace(1)* %list, i8 addrspace(1)* null)
  %i2 = add i64 %i, 1
  br label %loop
done:
  ret i8 addrspace(1)* %list
}

; The sum of a list's values: recursion, the object is needed behind the call.
define i64 @sum(i8 addrspace(1)* %list) "split-stack" gc "statepoint-example" {
  %none = icmp eq i8 addrspace(1)* %list, null
  br i1 %none, label %zero, label %some
zero:
  ret i64 0
some:
  %nextp = getelementptr i8, i8 addrspace(1)* %list, i64 8
  %nextpp = bitcast i8 addrspace(1)* %nextp to i8 addrspace(1)* addrspace(1)*
  %next = load i8 addrspace(1)*, i8 addrspace(1)* addrspace(1)* %nextpp
  %garbage = call i8 addrspace(1)* @new_object(i64 -1)
  %rest = call i64 @sum(i8 addrspace(1)* %next)
  %p = bitcast i8 addrspace(1)* %list to i64 addrspace(1)*
  %v = load i64, i64 addrspace(1)* %p
  %s = add i64 %v, %rest
  ret i64 %s
}

; A tree of 2^depth - 1 objects: each half is only here while the other is made.
define i8 addrspace(1)* @tree(i64 %depth) "split-stack" gc "statepoint-example" {
  %none = icmp eq i64 %depth, 0
  br i1 %none, label %zero, label %some
zero:
  ret i8 addrspace(1)* null
some:
  %d = sub i64 %depth, 1
  %left = call i8 addrspace(1)* @tree(i64 %d)
  %right = call i8 addrspace(1)* @tree(i64 %d)
  %root = call i8 addrspace(1)* @new_object(i64 %depth)
  call void @link_objects(i8 addrspace(1)* %root, i8 addrspace(1)* %left, i8 addrspace(1)* %right)
  ret i8 addrspace(1)* %root
}

; The only pointer to an object is an argument on the stack: in words that are
; part of this frame and belong to who is called. (The pass itself would have it
; live in this frame too.) LLVM pushes it for the call in either.
define i64 @stack_argument(i64 %id) "split-stack" gc "statepoint-example" {
  %keep = call i8 addrspace(1)* @new_object(i64 1)
  %a = call i8 addrspace(1)* @new_object(i64 %id)
  call void @use_object(i8 addrspace(1)* %keep)
  %t = call token (i64, i32, i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_i64i64i64i64i64i64i64i64p1i8f(i64 5, i32 0,
      i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)* elementtype(i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)) @eighth,
      i32 8, i32 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i8 addrspace(1)* %a, i32 0, i32 0)
      [ "gc-live"(i8 addrspace(1)* %keep) ]
  %v = call i64 @llvm.experimental.gc.result.i64(token %t)
  %keep2 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t, i32 0, i32 0)
  %w = call i64 @value_through(i8 addrspace(1)* %keep2)
  %s = add i64 %v, %w
  ret i64 %s
}
define i64 @pushed_argument(i64 %id) optsize "split-stack" gc "statepoint-example" {
  %keep = call i8 addrspace(1)* @new_object(i64 1)
  %a = call i8 addrspace(1)* @new_object(i64 %id)
  call void @use_object(i8 addrspace(1)* %keep)
  %t = call token (i64, i32, i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)*, i32, i32, ...)
      @llvm.experimental.gc.statepoint.p0f_i64i64i64i64i64i64i64i64p1i8f(i64 5, i32 0,
      i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)* elementtype(i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)) @eighth,
      i32 8, i32 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i8 addrspace(1)* %a, i32 0, i32 0)
      [ "gc-live"(i8 addrspace(1)* %keep) ]
  %v = call i64 @llvm.experimental.gc.result.i64(token %t)
  %keep2 = call i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token %t, i32 0, i32 0)
  %w = call i64 @value_through(i8 addrspace(1)* %keep2)
  %s = add i64 %v, %w
  ret i64 %s
}

; The address of a caller's variable over a statepoint: no pointer to an object,
; but it moves with the stack.
define void @store_later(i64* %where, i64 %id) noinline "split-stack" gc "statepoint-example" {
  %a = call i8 addrspace(1)* @new_object(i64 %id)
  %v = call i64 @value_through(i8 addrspace(1)* %a)
  store i64 %v, i64* %where
  ret void
}
define i64 @variable(i64 %id) "split-stack" gc "statepoint-example" {
  %x = alloca i64
  store i64 0, i64* %x
  call void @store_later(i64* %x, i64 %id)
  %v = load i64, i64* %x
  ret i64 %v
}

; A frame of variable size, and an aligned one: by the frame or the base pointer.
define i64 @dynamic(i64 %n, i64 %id) "split-stack" gc "statepoint-example" {
  %room = alloca i64, i64 %n
  %a = call i8 addrspace(1)* @new_object(i64 %id)
  %b = call i8 addrspace(1)* @new_object(i64 7)
  store i64 5, i64* %room
  %v = call i64 @value_through(i8 addrspace(1)* %a)
  %w = call i64 @value_through(i8 addrspace(1)* %b)
  %x = load i64, i64* %room
  %s = add i64 %v, %w
  %s2 = add i64 %s, %x
  ret i64 %s2
}

; A pointer into an object, and no other to it.
define i64 @interior(i64 %id) "split-stack" gc "statepoint-example" {
  %a = call i8 addrspace(1)* @new_object(i64 %id)
  %b = call i8 addrspace(1)* @new_object(i64 9)
  call void @link_objects(i8 addrspace(1)* %a, i8 addrspace(1)* %b, i8 addrspace(1)* null)
  %leftp = getelementptr i8, i8 addrspace(1)* %a, i64 8
  %garbage = call i8 addrspace(1)* @new_object(i64 0)
  %leftpp = bitcast i8 addrspace(1)* %leftp to i8 addrspace(1)* addrspace(1)*
  %left = load i8 addrspace(1)*, i8 addrspace(1)* addrspace(1)* %leftpp
  %v = call i64 @value_through(i8 addrspace(1)* %left)
  ret i64 %v
}

; Six pointers and six numbers over each call: all callee-saved registers are in
; use in between.
define i64 @many(i64 %x) "split-stack" gc "statepoint-example" {
  %a = call i8 addrspace(1)* @new_object(i64 1)
  %b = call i8 addrspace(1)* @new_object(i64 2)
  %c = call i8 addrspace(1)* @new_object(i64 3)
  %d = call i8 addrspace(1)* @new_object(i64 4)
  %e = call i8 addrspace(1)* @new_object(i64 5)
  %f = call i8 addrspace(1)* @new_object(i64 6)
  %x1 = mul i64 %x, 3
  %x2 = xor i64 %x, 77
  %x3 = add i64 %x1, %x2
  %va = call i64 @value_through(i8 addrspace(1)* %a)
  %vb = call i64 @value_through(i8 addrspace(1)* %b)
  %vc = call i64 @value_through(i8 addrspace(1)* %c)
  %vd = call i64 @value_through(i8 addrspace(1)* %d)
  %ve = call i64 @value_through(i8 addrspace(1)* %e)
  %vf = call i64 @value_through(i8 addrspace(1)* %f)
  %p = mul i64 %va, 100000
  %q = mul i64 %vb, 10000
  %r = mul i64 %vc, 1000
  %s = mul i64 %vd, 100
  %t = mul i64 %ve, 10
  %s1 = add i64 %p, %q
  %s2 = add i64 %s1, %r
  %s3 = add i64 %s2, %s
  %s4 = add i64 %s3, %t
  %s5 = add i64 %s4, %vf
  %s6 = mul i64 %s5, 1000
  %s7 = add i64 %s6, %x1
  %s8 = add i64 %s7, %x2
  %s9 = sub i64 %s8, %x3
  ret i64 %s9
}

declare token @llvm.experimental.gc.statepoint.p0f_p1i8i64f(i64 immarg, i32 immarg, i8 addrspace(1)* (i64)*, i32 immarg, i32 immarg, ...)
declare token @llvm.experimental.gc.statepoint.p0f_isVoidp1i8f(i64 immarg, i32 immarg, void (i8 addrspace(1)*)*, i32 immarg, i32 immarg, ...)
declare token @llvm.experimental.gc.statepoint.p0f_isVoidi64f(i64 immarg, i32 immarg, void (i64)*, i32 immarg, i32 immarg, ...)
declare token @llvm.experimental.gc.statepoint.p0f_i64i64i64i64i64i64i64i64p1i8f(i64 immarg, i32 immarg, i64 (i64, i64, i64, i64, i64, i64, i64, i8 addrspace(1)*)*, i32 immarg, i32 immarg, ...)
declare i8 addrspace(1)* @llvm.experimental.gc.result.p1i8(token)
declare i64 @llvm.experimental.gc.result.i64(token)
declare i8 addrspace(1)* @llvm.experimental.gc.relocate.p1i8(token, i32 immarg, i32 immarg)
