"""Which operations make new numbers and so get a point, and which merely choose or move numbers and get none.

Names are torch's own, without the underscores of operators and in-place variants: `add` stands for torch.add, +, += and
Tensor.add_.
"""

from typing import Any

import torch
from torch import Tensor

_CHOOSES = """
relu relu6 hardtanh clamp clip clamp_min clamp_max threshold hardshrink
max min amax amin aminmax maximum minimum fmax fmin topk sort msort argsort kthvalue median nanmedian mode cummax
cummin
max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
boolean_dispatch adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d
fractional_max_pool3d
max_unpool1d max_unpool2d max_unpool3d
where masked_fill masked_select masked_scatter index_select gather take take_along_dim getitem select slice_scatter
select_scatter diagonal_scatter abs absolute neg negative positive nan_to_num sign sgn
dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
tril triu
"""

_MOVES = """
reshape reshape_as view view_as flatten unflatten ravel squeeze unsqueeze permute transpose swapaxes swapdims t T mT H
mH adjoint
movedim moveaxis expand expand_as broadcast_to broadcast_tensors repeat tile repeat_interleave
cat concat concatenate stack hstack vstack dstack column_stack row_stack block_diag meshgrid atleast_1d atleast_2d
atleast_3d
split split_with_sizes chunk tensor_split hsplit vsplit dsplit unbind unfold unfold_copy narrow diagonal diag
diag_embed
flip fliplr flipud roll rot90 pad constant_pad_nd pixel_shuffle pixel_unshuffle channel_shuffle as_strided
contiguous clone detach copy setitem index_put index_copy index_fill scatter fill zero
to type type_as float double half bfloat16 cpu cuda requires_grad retain_grad register_hook set data get_item get
real imag view_as_real view_as_complex alias lift_fresh refine_names rename pin_memory resolve_conj resolve_neg
pack_padded_sequence pad_packed_sequence _pack_padded_sequence _pad_packed_sequence pad_sequence
zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full
new_tensor
"""

_COMPUTES = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc convolution linear bilinear
matmul mm bmm mv dot inner outer ger vdot addmm addbmm baddbmm addmv addr einsum tensordot chain_matmul multi_dot kron
cdist
batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize renorm
add sub subtract rsub mul multiply div divide true_divide addcmul addcdiv lerp
sum nansum mean nanmean var std var_mean std_mean prod cumsum cumprod logsumexp logcumsumexp logaddexp logaddexp2
trace linalg_multi_dot linalg_vecdot linalg_norm linalg_vector_norm linalg_matrix_norm matrix_exp
norm vector_norm matrix_norm dist
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d lp_pool1d lp_pool2d
lp_pool3d
interpolate upsample upsample_nearest upsample_bilinear grid_sample affine_grid fold scatter_add index_add
scatter_reduce index_reduce
embedding embedding_bag
softmax log_softmax softmin gumbel_softmax gelu silu mish sigmoid logsigmoid hardsigmoid hardswish tanh tanhshrink
softplus
softsign softshrink elu selu celu leaky_relu rrelu prelu glu
exp expm1 exp2 log log2 log10 log1p sqrt rsqrt square pow float_power reciprocal sin cos tan asin acos atan atan2 sinh
cosh
sinc erf erfc erfinv hypot xlogy sigmoid_focal_loss cosine_similarity pairwise_distance
scaled_dot_product_attention multi_head_attention_forward
fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2
fft_fftn fft_ifftn fft_rfftn fft_irfftn stft istft
lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
"""

_LOSSES = """
cross_entropy nll_loss nll_loss2d nll_loss_nd mse_loss l1_loss smooth_l1_loss huber_loss kl_div ctc_loss
binary_cross_entropy binary_cross_entropy_with_logits poisson_nll_loss gaussian_nll_loss soft_margin_loss
multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss margin_ranking_loss hinge_embedding_loss
cosine_embedding_loss triplet_margin_loss triplet_margin_with_distance_loss
"""

LEAVES = frozenset({"numpy", "array", "tolist", "dlpack", "data_ptr", "untyped_storage", "storage"})
"""Calls that hand numbers to Python or numpy, by torch's names."""
CHOOSES = frozenset(_CHOOSES.split())
MOVES = frozenset(_MOVES.split())
COMPUTES = frozenset(_COMPUTES.split())
LOSSES = frozenset(_LOSSES.split())
"""A network that is given labels may take its loss by itself."""

_REFLECTED = {
    "radd": "add",
    "rsub": "rsub",
    "rmul": "mul",
    "rtruediv": "div",
    "rdiv": "div",
    "rpow": "pow",
    "rmatmul": "matmul",
}
_OPERATORS = {
    "truediv": "div",
    "idiv": "div",
    "itruediv": "div",
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "ipow": "pow",
}
_ALSO_CALLED = {"linalg_matmul": "matmul", "linalg_matrix_exp": "matrix_exp"}
MASK_BOUND = -1e4


def name_of(function: Any) -> tuple[str, bool]:
    """The operation's name in the tables, and whether it writes its result into its first argument."""
    name: str = getattr(function, "__name__", type(function).__name__)
    if name.startswith("__") and name.endswith("__"):
        bare = name[2:-2]
        if bare in ("setitem", "getitem", "get", "set"):
            return bare, bare == "setitem"
        return _REFLECTED.get(bare, _OPERATORS.get(bare, bare)), bare.startswith("i") and bare in _OPERATORS
    if name.endswith("_") and not name.endswith("__"):
        return name[:-1], True
    return _ALSO_CALLED.get(name, name), False


def deciding(name: str, arguments: tuple[Any, ...], inputs: list[Tensor]) -> list[Tensor]:
    """The inputs of a call that say whether its result depends on the network's input: which expert a token goes to
    does, and not the weight that one number chooses among those of all experts."""
    if name != "getitem" or not isinstance(arguments[0], Tensor):
        return inputs
    whole, *chosen = inputs
    numbers = all(not t.ndim and not t.is_floating_point() and t.dtype != torch.bool for t in chosen)
    return [whole] if numbers else inputs


def is_cut(function: Any) -> bool:
    """Whether a call takes its result out of the gradient on purpose."""
    name, _ = name_of(function)
    attribute = getattr(getattr(function, "__self__", None), "__name__", "") if name == "get" else ""
    return name in ("detach", "data", "requires_grad") or attribute in ("data", "grad")


def _constant(value: Any) -> float | None:
    """A Python number, or the value of a tensor of one element that needs no gradient."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad and value.dtype.is_floating_point:
        return value.item()
    return None


def _power_of_two(value: float | None) -> bool:
    if value is None or value == 0 or value != value or value in (float("inf"), float("-inf")):
        return False
    mantissa = torch.frexp(torch.tensor(abs(value), dtype=torch.float64)).mantissa.item()
    return mantissa == 0.5


def _is_mask(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.requires_grad or not value.dtype.is_floating_point or not value.numel():
        return False
    return bool(value.min() <= MASK_BOUND)


def reason_for_no_point(name: str, arguments: tuple[Any, ...]) -> str | None:
    """Why this call gets no point; None where it gets one (docs/definitions/prediction.md section 1)."""
    if name in CHOOSES:
        return "chooses"
    if name in MOVES:
        return "moves"
    if name in LOSSES:
        return "is the loss"
    operands = arguments[:2]
    if name in ("mul", "multiply") and any(_power_of_two(_constant(value)) for value in operands):
        return "power of two"
    if name in ("div", "divide", "true_divide") and len(operands) == 2 and _power_of_two(_constant(operands[1])):
        return "power of two"
    if name == "add" and any(_is_mask(value) for value in operands):
        return "mask"
    return None
