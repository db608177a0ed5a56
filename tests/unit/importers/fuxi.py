"""A configuration of FuxiCTR with models and data sets of all kinds."""

from __future__ import annotations

from pathlib import Path

BASE = """
Base: {model_root: ./out, num_workers: 3, verbose: 1, early_stop_patience: 2, save_best_only: True,
       eval_steps: null, debug_mode: False, group_id: null, use_features: null, feature_specs: null,
       feature_config: null}
"""
COMMON = """
    dataset_id: shop
    loss: binary_crossentropy
    metrics: [logloss, AUC]
    task: binary_classification
    optimizer: adam
    batch_size: 4096
    epochs: 100
    shuffle: True
    seed: 2019
    embedding_dim: 10
    learning_rate: 1e-3
"""
EXPERIMENTS = {
    "autoint": """
    model: AutoInt
    monitor: {'AUC': 1, 'logloss': -1}
    embedding_regularizer: 1e-5
    net_regularizer: 0
    attention_layers: 5
    attention_dim: 128
    num_heads: 4
    use_residual: True
    use_scale: True
    layer_norm: True
    use_wide: False
    dnn_hidden_units: [400, 400]
    dnn_activations: relu
    batch_norm: True
    net_dropout: 0.1
""",
    "lr": "\n    model: LR\n    monitor: AUC\n    regularizer: 1.e-6\n",
    "dcnv2": """
    model: DCNv2
    monitor: AUC
    model_structure: parallel
    use_low_rank_mixture: True
    low_rank: 16
    num_experts: 3
    num_cross_layers: 4
    parallel_dnn_hidden_units: [64]
    stacked_dnn_hidden_units: [32]
    dnn_activations: ReLU
    net_dropout: 0
""",
    "fibinet": """
    model: FiBiNET
    hidden_units: [8, 4]
    reduction_ratio: 0.5
    bilinear_type: field_each
    net_dropout: 0.1
""",
    "masknet": """
    model: MaskNet
    model_type: ParallelMaskNet
    dnn_hidden_units: [8]
    parallel_num_blocks: 2
    parallel_block_dim: 16
    emb_layernorm: False
    net_dropout: 0.2
""",
    "dlrm": """
    model: DLRM
    top_mlp_units: [16, 8]
    bottom_mlp_units: null
    interaction_op: cat
    top_mlp_dropout: 0.3
    batch_norm: True
""",
    "afn": """
    model: AFN
    ensemble_dnn: False
    logarithmic_neurons: 7
    afn_hidden_units: [8]
    afn_dropout: 0.1
    dnn_hidden_units: [9]
    batch_norm: False
""",
    "afn_silent": "\n    model: AFN\n",
    "finalnet": """
    model: FinalNet
    block_type: 1B
    use_feature_gating: True
    block1_hidden_units: [8, 6]
    block1_hidden_activations: ReLU
    block1_dropout: 0.1
    norm_type: BN
""",
    "no_residual": "\n    model: AutoInt\n    use_residual: False\n",
    "odd": """
    model: DeepFM
    monitor: AUC
    hidden_units: [8]
    hidden_activations: tanh
    embedding_regularizer: l1(0.1)
    surprise: 3
""",
    "exotic": "\n    model: FiGNN\n    monitor: AUC\n",
    "watchful": "\n    model: FM\n    monitor: {'AUC': 2, 'NDCG': 1}\n",
}
DATA = """
shop:
    data_format: csv
    min_categr_count: 2
    label_col: {name: click, dtype: float}
    feature_cols:
        - {name: [user, item], active: True, dtype: str, type: categorical, source: user}
        - {name: note, active: False, dtype: str, type: categorical}
        - {name: price, dtype: float, type: numeric, normalizer: StandardScaler}
        - {name: weight, dtype: float, type: numeric, normalizer: MinMaxScaler}
        - {name: age, dtype: float, type: categorical, category_processor: quantile_bucket, num_buckets: 7}
        - {name: seen, dtype: str, type: sequence, splitter: "^", max_len: 5, share_embedding: item}
        - {name: vector, dtype: str, type: embedding}
        - {name: session, dtype: str, type: meta}
encoded: {data_format: npz, train_data: train.npz}
"""


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
