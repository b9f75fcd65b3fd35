"""Options by the names that other projects give them, for hints about unknown ones.

SlowFast's (`SOLVER.BASE_LR`), mmaction2's (`optim_wrapper.optimizer.lr`), torchvision's reference
scripts' (`lr-step-size`) and what people write from memory.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

# Options -> their names elsewhere: lower case, the last part of a dotted name or all of it.
# Of several options those count that the configuration at hand knows.
_OPTIONS = {
    "optim.lr": "learning_rate base_lr init_lr initial_lr lr_init peak_lr",
    "optim.epochs": "max_epoch max_epochs num_epochs total_epochs n_epochs",
    "optim.batch_size": "train.batch_size videos_per_gpu samples_per_gpu batchsize bs",
    "evaluation.batch_size": "test.batch_size val_batch_size",
    "optim.optimizer": "optimizing_method optim optimiser",
    "optim.schedule": "lr_policy lr_scheduler scheduler",
    "optim.milestones": "lr_steps steps lr_milestones",
    "optim.warmup_updates": "warmup warmup_iters",
    "optim.clip_grad_norm": "grad_clip clip_grad clip_grad_l2norm max_norm clip_gradient",
    "optim.accumulate": "accum_iter accumulation_steps gradient_accumulation_steps grad_accum",
    "optim.ema_decay": "ema model_ema model_ema_decay",
    "optim.weight_decay": "wd l2",
    "clip.num_frames": "frames clip_len clip_length t",
    "clip.step": "sampling_rate frame_interval stride tau frame_step",
    "clip.train_crop_px picture.short_side_px": (
        "train_crop_size crop_size input_size img_size image_size resolution"
    ),
    "clip.test_short_side_px": "test_crop_size test_scale val_crop_size",
    "clip.train_short_side_px": "train_jitter_scales jitter_scales scale_range",
    "picture.short_side_px": "min_size",
    "picture.long_side_px": "max_size",
    "clip.flip_probability": "flip hflip random_flip",
    "model.pretrained model.start_from": (
        "weights checkpoint checkpoint_file_path load_from init_from finetune "
        "pretrained_weights pretrained_path resume_from"
    ),
    "model.variant": "arch model_name backbone model_size",
    "model.dropout": "dropout_rate dropout_ratio drop_rate",
    "data.root": "path data_path path_to_data_dir data_root dataset data_dir root_dir",
    "output": "output_dir work_dir out_dir log_dir save_dir out",
    "workers": "num_workers workers_per_gpu n_workers",
    "threads": "num_threads cpu_threads",
    "seed": "rng_seed random_seed manual_seed",
    "precision": "amp fp16 bf16 mixed_precision use_amp",
    "evaluation.every_epochs": "eval_period val_interval eval_every",
    "data.box_score_threshold": "detection_score_thresh person_threshold",
    "classification.test_clips": "num_ensemble_views num_clips",
    "classification.test_crops": "num_spatial_crops num_crops",
}
_ELSEWHERE = {
    name: options.split() for options, names in _OPTIONS.items() for name in names.split()
}
# What is no option here, and why.
_NO_OPTION = {
    **dict.fromkeys(
        ("num_classes", "n_classes", "classes", "nclasses"),
        "the number of classes comes from the data set's label map (data.label_map)",
    ),
    **dict.fromkeys(
        ("gpus", "num_gpus", "gpu", "gpu_ids", "ngpu", "devices", "world_size"),
        "one process takes one GPU (device=cuda); several are started by torchrun",
    ),
    **dict.fromkeys(
        ("fps", "target_fps", "frame_rate", "sample_rate"),
        "any frame rate is read; the spacing of a clip's frames is clip.step, in 1/30 s",
    ),
    **dict.fromkeys(
        ("resume", "auto_resume"), "a stopped run goes on by the command's --resume RUN_FOLDER"
    ),
}


def hint_for(name: str, known: Collection[str], word: str) -> str:
    """Return what to add to "unknown option 'NAME'": what may be meant among `known`, or nothing.

    known: dotted names.  word: what a key is called; names of other projects are for options.
    """
    meant = name.lower().replace("-", "_")
    last = meant.rpartition(".")[2]
    for spelling in (meant, last) if word == "option" else ():
        if spelling in _NO_OPTION and spelling not in known:
            return f"; {_NO_OPTION[spelling]}"
        options = [option for option in _ELSEWHERE.get(spelling, ()) if option in known]
        if options:
            return _did_you_mean(options)
    same = [option for option in known if option.rpartition(".")[2] == last]
    if same:
        return _did_you_mean(same)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return _did_you_mean(close)
    by_last = {option.rpartition(".")[2]: option for option in known}
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.75)
    return _did_you_mean([by_last[near[0]]]) if near else ""


def _did_you_mean(options: Collection[str]) -> str:
    names = " or ".join(f"'{option}'" for option in list(options)[:3])
    return f", did you mean {names}?"
