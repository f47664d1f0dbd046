// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// conditioned is an object whose status has conditions.
type conditioned interface {
	client.Object
	GetConditions() *[]metav1.Condition
}

// setCondition sets one condition for the object's present generation, and reports whether that changed it.
func setCondition(o conditioned, conditionType string, status metav1.ConditionStatus, reason, message string) bool {
	return meta.SetStatusCondition(o.GetConditions(), metav1.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: o.GetGeneration(),
	})
}

func setReady(o conditioned, status metav1.ConditionStatus, reason, message string) {
	setCondition(o, clerkv1alpha1.ConditionReady, status, reason, message)
}

// catchUpInterval is how soon an object is looked at again that the cache holds in a state from before the last write.
const catchUpInterval = 20 * time.Millisecond

// behindInterval is how soon it is tried again to decide what cannot be taken back. It keeps nothing else waiting, however
// long a cache hears of nothing.
const behindInterval = time.Second

// errBehind says that nothing can be decided on what the cache holds: it has not heard yet of what the API server has.
var errBehind = errors.New("the cache is behind")

// finish ends a reconcile: it writes the status, and turns a conflict, which says that the cache was behind, into another
// look soon. Nobody has to hear of that.
func (b *base) finish(
	ctx context.Context, before, after conditioned, result ctrl.Result, err error,
) (ctrl.Result, error) {
	if errors.Is(err, errBehind) {
		log.FromContext(ctx).Info("Waiting for the cache, which has not heard of a change yet that decides on a namespace")
		return ctrl.Result{RequeueAfter: behindInterval, Priority: new(rolloutPriority)}, nil
	}
	if errors.Is(err, errNotProbed) {
		return outcome(besides(err, errNotProbed), ctrl.Result{})
	}
	behind := b.written.isAhead(before)
	err = errors.Join(err, b.patchStatus(ctx, before, after))
	if apierrors.IsConflict(err) || err == nil && behind {
		return ctrl.Result{RequeueAfter: catchUpInterval}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if result.RequeueAfter > catchUpInterval {
		// It would keep the priority that it came with, for good, and a later event can only raise it.
		result.Priority = new(rolloutPriority)
	}
	return result, nil
}

// patchStatus writes the status if it changed: the one status write of a reconcile. It then tells of a transition of
// Ready in an Event. The write is refused when the object was read before its last change, so that no transition is told
// twice or from a state that is gone. An object that is gone needs no status.
func (b *base) patchStatus(ctx context.Context, before, after conditioned) error {
	// A reconcile may have written the metadata already; only the status is compared and sent.
	before.SetFinalizers(after.GetFinalizers())
	before.SetManagedFields(after.GetManagedFields())
	before.SetResourceVersion(after.GetResourceVersion())
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	err := b.client.Status().Patch(ctx, after, lockedMerge(before))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching status: %w", err)
	}
	b.written.note(after)
	b.tell(before, after)
	return nil
}

// quietReasons are what an object may go through on its way to be ready without anybody having to be warned.
var quietReasons = map[string]bool{
	clerkv1alpha1.ReasonDeleting:               true,
	clerkv1alpha1.ReasonBinding:                true,
	clerkv1alpha1.ReasonWaitingForUser:         true,
	clerkv1alpha1.ReasonWaitingForOrganization: true,
	clerkv1alpha1.ReasonSuperseded:             true,
	clerkv1alpha1.ReasonUserDeleting:           true,
	clerkv1alpha1.ReasonOrganizationDeleting:   true,
	clerkv1alpha1.ReasonUserSuspended:          true,
	clerkv1alpha1.ReasonRevoking:               true,
	clerkv1alpha1.ReasonRollingOut:             true,
	clerkv1alpha1.ReasonObserving:              true,
	clerkv1alpha1.ReasonTenantSuspended:        true,
	// ClerkInstances and classes warn of it.
	clerkv1alpha1.ReasonPoliciesNotEnforced: true,
}

// telling says which statuses of a condition are bad: all but the good one and, unless that is told, Unknown.
type telling struct {
	good    metav1.ConditionStatus
	unknown bool
}

func (t telling) isBad(c *metav1.Condition) bool {
	return c != nil && c.Status != t.good && (t.unknown || c.Status != metav1.ConditionUnknown)
}

// alsoTold are the conditions whose transitions are told beside Ready's.
var alsoTold = map[string]telling{
	clerkv1alpha1.ConditionBackendAPIReady: {good: metav1.ConditionTrue},
	clerkv1alpha1.ConditionFresh:           {good: metav1.ConditionTrue},
	clerkv1alpha1.ConditionPruneHeld:       {good: metav1.ConditionFalse},

	clerkv1alpha1.ConditionInstancesSpecified: {good: metav1.ConditionTrue},
	// Nothing new is given either while it is unknown.
	clerkv1alpha1.ConditionPoliciesEnforced: {good: metav1.ConditionTrue, unknown: true},
}

// tell makes Events of transitions. Becoming ready for the first time is told of organizations only: that a tenant exists
// is news, that one more user does is not.
func (b *base) tell(before, after conditioned) {
	for _, condition := range slices.Sorted(maps.Keys(alsoTold)) {
		b.tellCondition(before, after, condition, alsoTold[condition])
	}
	was, is := transition(before, after, clerkv1alpha1.ConditionReady)
	if is == nil {
		return
	}
	_, organization := after.(*clerkv1alpha1.ClerkOrganization)
	if was == nil && !organization && (is.Status == metav1.ConditionTrue || quietReasons[is.Reason]) {
		return
	}
	eventType := corev1.EventTypeNormal
	if is.Status != metav1.ConditionTrue && !quietReasons[is.Reason] {
		eventType = corev1.EventTypeWarning
	}
	b.recorder.Eventf(after, nil, eventType, is.Reason, "Reconcile", "%s", is.Message)
}

// tellCondition makes an Event of a condition that turned bad, or good after it had been bad.
func (b *base) tellCondition(before, after conditioned, condition string, t telling) {
	was, is := transition(before, after, condition)
	switch {
	case t.isBad(is):
		b.recorder.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "Reconcile", "%s", is.Message)
	case is != nil && is.Status == t.good && t.isBad(was):
		b.recorder.Eventf(after, nil, corev1.EventTypeNormal, is.Reason, "Reconcile", "%s", is.Message)
	}
}

// transition returns a condition before and after its status or reason changed; nothing when they did not.
func transition(before, after conditioned, condition string) (was, is *metav1.Condition) {
	was = meta.FindStatusCondition(*before.GetConditions(), condition)
	is = meta.FindStatusCondition(*after.GetConditions(), condition)
	if is == nil || was != nil && was.Reason == is.Reason && was.Status == is.Status {
		return nil, nil
	}
	return was, is
}

// stalledError is a state that trying again does not mend: somebody has to change something. It becomes a condition.
type stalledError struct {
	reason, message string
	// recheck is when to look again where no watch may tell of the change; zero where one does.
	recheck time.Duration
}

func (e *stalledError) Error() string { return e.reason + ": " + e.message }

func stalled(reason string, recheck time.Duration, format string, args ...any) error {
	return &stalledError{reason: reason, message: fmt.Sprintf(format, args...), recheck: recheck}
}

// parts returns what is joined in an error; the error itself where nothing is.
func parts(err error) []error {
	joined, isJoined := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !isJoined:
		return []error{err}
	}
	var all []error
	for _, part := range joined.Unwrap() {
		all = append(all, parts(part)...)
	}
	return all
}

// hasReason reports whether an error is, or joins, a stalledError with a reason.
func hasReason(err error, reason string) bool {
	return slices.ContainsFunc(parts(err), func(part error) bool {
		stall, ok := errors.AsType[*stalledError](part)
		return ok && stall.reason == reason
	})
}

// outcome is what a reconcile ends with: a stalled object is looked at again later or when a watch says so, everything
// else that failed is tried again with backoff.
func outcome(err error, otherwise ctrl.Result) (ctrl.Result, error) {
	if err == nil {
		return otherwise, nil
	}
	recheck, ok := stalledOnly(err)
	if !ok {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: recheck}, nil
}

// stalledOnly reports whether nothing but stalledErrors are joined in an error, and when to look again.
func stalledOnly(err error) (recheck time.Duration, ok bool) {
	all := parts(err)
	for _, part := range all {
		stall, ok := errors.AsType[*stalledError](part)
		if !ok {
			return 0, false
		}
		if recheck == 0 || stall.recheck > 0 && stall.recheck < recheck {
			recheck = stall.recheck
		}
	}
	return recheck, len(all) > 0
}

// besides returns what else is joined in an error than a target; nil when that is nothing.
func besides(err, target error) error {
	return errors.Join(slices.DeleteFunc(parts(err), func(part error) bool { return errors.Is(part, target) })...)
}

// setFailed sets a condition to False for an error.
func setFailed(o conditioned, conditionType string, err error) {
	if stall := new(stalledError); errors.As(err, &stall) {
		setCondition(o, conditionType, metav1.ConditionFalse, stall.reason, stall.message)
		return
	}
	// The error's text is for the log: it can name what differs from try to try, and conditions must not flap.
	setCondition(o, conditionType, metav1.ConditionFalse, clerkv1alpha1.ReasonReconcileError,
		"the last attempt failed and is being repeated; see the operator's log")
}

// ensureFinalizer adds a finalizer to an object that was not written by the mirror, which always sets it.
func (b *base) ensureFinalizer(ctx context.Context, o client.Object, finalizer string) error {
	before := o.DeepCopyObject().(client.Object)
	if !controllerutil.AddFinalizer(o, finalizer) {
		return nil
	}
	if err := b.client.Patch(ctx, o, lockedMerge(before)); err != nil {
		return fmt.Errorf("adding the finalizer: %w", err)
	}
	return nil
}

// releaseFinalizer lets an object go.
func (b *base) releaseFinalizer(ctx context.Context, o client.Object, finalizer string) error {
	before := o.DeepCopyObject().(client.Object)
	if !controllerutil.RemoveFinalizer(o, finalizer) {
		return nil
	}
	if err := b.client.Patch(ctx, o, lockedMerge(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the finalizer: %w", err)
	}
	return nil
}

// lockedMerge is a merge patch that fails on a conflict: it replaces the list of finalizers whole.
func lockedMerge(before client.Object) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}
