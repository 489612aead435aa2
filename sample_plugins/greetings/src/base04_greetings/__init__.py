"""An action pack for Base04: ``actions.yaml`` says what there is, ``handlers`` does it."""
