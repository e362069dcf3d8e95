"""The engine contract as the suite poses it: names, arguments and results of each operation.

docs/CONFORMANCE.md says what each computes; docs/SPEC.md and docs/derivations.md give the
mathematics.  Scalars are arrays of shape ().
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One function that a backend may offer.

    Attributes
    ----------
    stage : str
    inputs, outputs : tuple of str
        Names of the arguments and of the results, in order.
    """

    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _operation(stage: str, inputs: str, outputs: str) -> Operation:
    return Operation(stage, tuple(inputs.split()), tuple(outputs.split()))


HEADER = "network grouping signs bits block_size seed factors rho indices"
# Of a file of any code.
FIELDS = "network grouping signs code bits theta block_size seed factors rho messages"
LAYOUT = "block_size seed factors grouping signs"
BATCH = "bits tau phi rho eps images labels"
POSTERIOR = "tau phi rho budget eps"
AROUND = "tau phi nu rho budget eps"

OPERATIONS: dict[str, Operation] = {
    "philox4x32": _operation("bits", "counter key", "words"),
    "stream_words": _operation("bits", "seed stream row first count", "words"),
    "stream_permutation": _operation("bits", "seed stream row count", "permutation"),
    "pack_indices": _operation("bits", "indices bits", "payload"),
    "unpack_indices": _operation("bits", "payload bits count", "indices"),
    "read_integers": _operation("bits", "payload count theta raw", "integers"),
    "write_integers": _operation("bits", "integers theta raw", "payload"),
    "read_container": _operation("bits", "data", HEADER),
    "write_container": _operation("bits", HEADER, "data"),
    "describe_file": _operation("bits", "data", FIELDS),
    "compose_file": _operation("bits", FIELDS, "data"),
    "block_layout": _operation("bits", f"{LAYOUT} weights", "places weight_signs"),
    "normal_quantile": _operation("numerics", "p", "z"),
    "codebook": _operation("numerics", "seed indices dimension", "rows"),
    "log_s": _operation("numerics", "x", "log_s"),
    "ds_dx": _operation("numerics", "x", "slope"),
    "gaussian_kl": _operation("numerics", "delta log_s", "kl"),
    "mean_kl": _operation("posterior", "tau phi budget", "delta log_s"),
    "mean_kl_forward": _operation("posterior", POSTERIOR, "w"),
    "mean_kl_backward": _operation("posterior", f"{POSTERIOR} g", "dtau dphi dlog_rho"),
    "mean_var_forward": _operation("posterior", "mu log_sigma eps", "w"),
    "mean_var_backward": _operation(
        "posterior", "mu log_sigma rho beta eps g", "dmu dlog_sigma dlog_rho"
    ),
    "mean_kl_forward_around": _operation("posterior", AROUND, "w"),
    "mean_kl_backward_around": _operation("posterior", f"{AROUND} g", "dtau dphi dlog_rho"),
    "mean_var_backward_around": _operation(
        "posterior", "mu log_sigma nu rho beta eps g", "dmu dlog_sigma dlog_rho"
    ),
    "expand_hash": _operation("posterior", "variables places signs", "w"),
    "expand_hash_backward": _operation("posterior", "g places signs count", "dvariables"),
    "images": _operation("layers", "pixels", "x"),
    "conv2d": _operation("layers", "x w b", "y"),
    "conv2d_backward": _operation("layers", "x w dy", "dx dw db"),
    "conv2d_general": _operation("layers", "x w b stride padding groups", "y"),
    "conv2d_general_backward": _operation("layers", "x w dy stride padding groups", "dx dw db"),
    "maxpool2d": _operation("layers", "x", "y"),
    "maxpool2d_backward": _operation("layers", "x dy", "dx"),
    "mean_pool2d": _operation("layers", "x height width", "y"),
    "mean_pool2d_backward": _operation("layers", "dy height width shape", "dx"),
    "group_norm": _operation("layers", "x gain bias groups", "y"),
    "group_norm_backward": _operation("layers", "x gain groups dy", "dx dgain dbias"),
    "relu": _operation("layers", "x", "y"),
    "relu_backward": _operation("layers", "x dy", "dx"),
    "dense": _operation("layers", "x w b", "y"),
    "dense_backward": _operation("layers", "x w dy", "dx dw db"),
    "softmax_cross_entropy": _operation("layers", "logits labels", "losses dlogits"),
    "log_weights": _operation("coding", "candidates delta log_s", "log_w"),
    "select_indices": _operation("coding", "seed bits blocks delta log_s", "indices"),
    "best_indices": _operation("coding", "seed bits delta log_s", "indices"),
    "decode_blocks": _operation("coding", "seed indices dimension rho", "w"),
    "ordered_indices": _operation("coding", "seed bits blocks delta log_s", "indices"),
    "poisson_indices": _operation("coding", "seed blocks delta log_s", "indices"),
    "partition_messages": _operation("coding", "seed bits blocks delta log_s", "messages"),
    "partition_rows": _operation("coding", "seed bits blocks messages dimension", "rows"),
    "variable_messages": _operation("coding", "code seed rows delta log_s", "messages"),
    "variable_samples": _operation("coding", "code seed rows messages", "samples"),
    "loss_and_grads": _operation("network", f"{LAYOUT} {BATCH}", "loss dtau dphi dlog_rho"),
    "loss_and_grads_general": _operation(
        "network", f"description {LAYOUT} {BATCH}", "loss dtau dphi dlog_rho"
    ),
    "adam_step": _operation("optimiser", "theta g m v step rate", "new_theta new_m new_v"),
    "train_steps": _operation(
        "trajectory",
        f"{LAYOUT} bits tau phi log_rho eps images labels rates scale_rate",
        "losses new_tau new_phi new_log_rho",
    ),
    "encode_model": _operation("files", f"{LAYOUT} bits rho delta log_s", "data"),
    "decode_model": _operation("files", "data", "sha256 sample"),
    "decode_chain": _operation("files", "data sizes", "sha256 sample"),
    "predict": _operation("predictions", "data images", "logits classes"),
}
