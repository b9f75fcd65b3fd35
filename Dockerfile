# Finds actions in videos without a display and not as root; weights are fetched once into the volume.
#   docker build -t x3d-actions .
#   docker run --rm -v "$PWD/videos:/videos:ro" -v "$PWD/found:/found" -v x3d-cache:/cache \
#       x3d-actions detect_actions /videos --out /found
# The folder of results has to be writable for user 1000. On a GPU: --gpus all.
FROM python:3.11-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE train_ava.py ./
COPY detection ./detection
COPY ava_tools ./ava_tools
COPY configs ./configs
ARG EXTRAS=export,openvino,ray,remote
# OpenCV without windows, which needs no libraries of a display, in place of the other package.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir ".[${EXTRAS}]" \
    && /venv/bin/pip uninstall --yes opencv-python \
    && /venv/bin/pip install --no-cache-dir "opencv-python-headless>=5"

FROM python:3.11-slim-bookworm
COPY --from=build /venv /venv
RUN useradd --create-home --uid 1000 actions \
    && install --directory --owner actions /cache /found
ENV PATH=/venv/bin:$PATH \
    TORCH_HOME=/cache/torch \
    XDG_CACHE_HOME=/cache \
    PYTHONUNBUFFERED=1
VOLUME /cache
USER 1000
WORKDIR /home/actions
ENTRYPOINT ["x3d-actions"]
CMD ["--help"]
